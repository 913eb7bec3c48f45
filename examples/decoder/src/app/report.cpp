// SPDX-License-Identifier: Apache-2.0
#include "app/report.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

namespace decoder {

namespace {

constexpr std::size_t block_tokens = 16;

using row = std::array<std::string, 3>;

double rate(std::size_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

std::string with_digits(double value, int digits) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.*f", digits, value);
    return text.data();
}

row speed_row(const char* name, std::size_t tokens, double seconds) {
    const double speed = rate(tokens, seconds);
    return {name, with_digits(speed, speed < 100 ? 1 : 0) + " tokens/s",
            std::to_string(tokens) + " tokens in " + with_digits(seconds, 3) + " s"};
}

std::string render(const std::vector<row>& rows) {
    std::array<std::size_t, 2> widths{};
    for (const row& each : rows)
        for (std::size_t column = 0; column < widths.size(); ++column)
            widths[column] = std::max(widths[column], each[column].size());
    std::string table;
    for (const row& each : rows) {
        if (each[1].empty()) { // a heading
            table += each[0] + "\n";
            continue;
        }
        table += each[0] + std::string(widths[0] - each[0].size() + 2, ' ');
        table += std::string(widths[1] - each[1].size(), ' ') + each[1];
        table += "  " + each[2] + "\n";
    }
    return table;
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
    std::vector<row> rows{
        speed_row("prefill", report.prompt_tokens, report.result.prefill_seconds),
        speed_row("decode", report.result.decode_steps, report.result.decode_seconds),
        {"KV cache, used", to_string(cache.row * cache.rows),
         std::to_string(cache.rows) + " tokens of " + to_string(cache.row) + ", stored as " +
             name_of(report.chosen.cache.type)},
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
    const ordered_json root = {
        {"model", chosen.model.string()},
        {"backend", report.memory.description},
        {"huge_pages", report.memory.huge_pages},
        {"settings",
         {{"backend", name_of(chosen.memory)},
          {"growth", name_of(chosen.cache.growth)},
          {"page_bytes", report.cache.page.count()},
          {"kv_limit_bytes", chosen.cache.limit.count()},
          {"kv_type", name_of(chosen.cache.type)},
          {"threads", chosen.threads},
          {"prefill_chunk", chosen.prefill_chunk},
          {"temperature", chosen.how.temperature},
          {"top_p", chosen.how.top_p},
          {"seed", chosen.how.seed}}},
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
          {"used_bytes", (report.cache.row * report.cache.rows).count()},
          {"reserved_bytes", report.cache.reserved.count()},
          {"mapped_bytes", report.cache.mapped.count()},
          {report.memory.counted_by + "_bytes", counted ? ordered_json(counted->count()) : ordered_json()},
          {"peak_bytes", report.cache.peak.count()},
          {"maximum_length_bytes", contiguous_bytes(report).count()},
          {"blocks_of_16_bytes", paged_bytes(report).count()}}},
        {"tokens", result.tokens},
        {"text", text},
    };
    return root.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

} // namespace decoder
