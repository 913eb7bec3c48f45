// SPDX-License-Identifier: Apache-2.0
#include "app/report.hpp"

#include "app/settings_json.hpp"
#include "app/table.hpp"

#include <nlohmann/json.hpp>

#include <optional>
#include <utility>
#include <vector>

namespace decoder {

namespace {

constexpr std::size_t block_tokens = 16;

std::string bytes_before_and_after(const std::optional<vtensor::bytes>& before,
                                   const std::optional<vtensor::bytes>& after) {
    const auto text = [](const std::optional<vtensor::bytes>& one) {
        return one ? to_string(*one) : std::string{"unknown"};
    };
    return text(before) + " → " + text(after);
}

void add_eviction(const run_report& report, std::vector<table_row>& rows) {
    const eviction_figures& done = *report.cache.evicted;
    rows.push_back({"eviction", "", ""});
    rows.push_back({"  method", *report.chosen.evict,
                    "heads laid out " + name_of(report.chosen.layout) + ", defragmented by " +
                        name_of(report.chosen.defrag)});
    rows.push_back({"  evictions", std::to_string(done.evictions),
                    with_digits(1e3 * done.choosing_seconds, 1) + " ms choosing, " +
                        with_digits(1e3 * done.moving_seconds, 1) + " ms moving rows"});
    if (done.evictions != 0) {
        rows.push_back({"  by the library", bytes_before_and_after(done.before.mapped, done.after.mapped),
                        "physical memory before the first, after the last"});
        rows.push_back({"  by the " + report.memory.counted_by,
                        bytes_before_and_after(done.before.physical, done.after.physical), "the same"});
    }
    for (std::size_t layer = 0; layer < done.kept.size(); ++layer) {
        const auto& kept = done.kept[layer];
        rows.push_back({"  layer " + std::to_string(layer),
                        std::to_string(kept.least) + " / " + std::to_string(kept.median) + " / " +
                            std::to_string(kept.most),
                        layer == 0 ? "tokens of a head: the least, the median, the most" : "tokens"});
    }
}

nlohmann::ordered_json json_of(const eviction_figures& done, const settings& chosen) {
    using nlohmann::ordered_json;
    const auto memory = [](const eviction_figures::memory& one) {
        return ordered_json{
            {"mapped_bytes", one.mapped.count()},
            {"kernel_bytes", one.physical ? ordered_json(one.physical->count()) : ordered_json()}};
    };
    ordered_json layers = ordered_json::array();
    for (const auto& kept : done.kept)
        layers.push_back({{"least", kept.least}, {"median", kept.median}, {"most", kept.most}});
    return {{"method", *chosen.evict},
            {"keep", chosen.keep ? ordered_json(*chosen.keep) : ordered_json()},
            {"layout", name_of(chosen.layout)},
            {"defrag", name_of(chosen.defrag)},
            {"evictions", done.evictions},
            {"choosing_seconds", done.choosing_seconds},
            {"moving_seconds", done.moving_seconds},
            {"before", memory(done.before)},
            {"after", memory(done.after)},
            {"kept_tokens", std::move(layers)}};
}

} // namespace

vtensor::bytes contiguous_bytes(const run_report& report) noexcept {
    return report.cache.row * report.context;
}

vtensor::bytes paged_bytes(const run_report& report) noexcept {
    const std::size_t blocks = (report.cache.rows + block_tokens - 1) / block_tokens;
    return report.cache.row * (blocks * block_tokens);
}

std::string to_table(const run_report& report) {
    const kv_figures& cache = report.cache;
    const auto policy = name_of(report.chosen.cache.growth) + " growth, pages of " + to_string(cache.page);
    std::vector<table_row> rows{
        speed_row("prefill", report.prompt_tokens, report.result.prefill_seconds),
        speed_row("decode", report.result.decode_steps, report.result.decode_seconds),
        {"KV cache, used", to_string(cache.used),
         std::to_string(cache.rows) + " tokens of " + to_string(cache.row) + ", stored as " +
             name_of(report.chosen.cache.type) + (cache.evicted ? ", some evicted" : "")},
        {"  virtual, reserved", to_string(cache.reserved),
         "for " + std::to_string(report.context) + " tokens"},
        {"  physical, mapped", to_string(cache.mapped), "by the library's count; " + policy},
        {"  physical, " + report.memory.counted_by,
         report.memory.physical ? to_string(*report.memory.physical) : "unknown",
         "by the " + report.memory.counted_by + "'s count (" + report.memory.counted_how + ")"},
        {"  physical, peak", to_string(cache.peak), "the most held at once"},
        {"for comparison", "", ""},
        {"  maximum length", to_string(contiguous_bytes(report)), "a cache allocated for the whole context"},
        {"  16-token blocks", to_string(paged_bytes(report)), "a paged cache with a block table"},
    };
    if (cache.evicted)
        add_eviction(report, rows);
    if (report.chosen.huge_pages)
        rows.push_back({"huge pages", "asked for", report.memory.huge_pages});
    return render(rows) + "backend " + name_of(report.chosen.memory) + ": " + report.memory.description +
           "\n";
}

std::string to_json(const run_report& report, std::string_view text) {
    using nlohmann::ordered_json;
    const settings& chosen = report.chosen;
    const generation& result = report.result;
    const auto& counted = report.memory.physical;
    ordered_json root = {
        {"model", chosen.model.string()},
        {"backend", report.memory.description},
        {"huge_pages", report.memory.huge_pages},
        {"settings", to_json(chosen, report.cache.page)},
        {"context_tokens", report.context},
        {"weight_bytes", report.weight_bytes},
        {"prompt_tokens", report.prompt_tokens},
        {"generated_tokens", result.tokens.size()},
        {"stopped_by", result.stopped == stop_reason::end_token ? "end_token" : "max_tokens"},
        {"prefill_seconds", result.prefill_seconds},
        {"prefill_tokens_per_second", rate(report.prompt_tokens, result.prefill_seconds)},
        {"decode_steps", result.decode_steps},
        {"decode_seconds", result.decode_seconds},
        {"decode_tokens_per_second", rate(result.decode_steps, result.decode_seconds)},
        {"kv_cache",
         {{"tokens", report.cache.rows},
          {"token_bytes", report.cache.row.count()},
          {"used_bytes", report.cache.used.count()},
          {"reserved_bytes", report.cache.reserved.count()},
          {"mapped_bytes", report.cache.mapped.count()},
          {report.memory.counted_by + "_bytes", counted ? ordered_json(counted->count()) : ordered_json()},
          {"peak_bytes", report.cache.peak.count()},
          {"maximum_length_bytes", contiguous_bytes(report).count()},
          {"blocks_of_16_bytes", paged_bytes(report).count()}}},
        {"tokens", result.tokens},
        {"text", text},
    };
    if (report.cache.evicted)
        root["eviction"] = json_of(*report.cache.evicted, chosen);
    return root.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

} // namespace decoder
