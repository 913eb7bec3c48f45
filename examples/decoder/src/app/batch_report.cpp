// SPDX-License-Identifier: Apache-2.0
#include "app/batch_report.hpp"

#include "app/settings_json.hpp"
#include "app/table.hpp"

#include <vtensor/kv/stats_text.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <optional>
#include <utility>

namespace decoder {

namespace {

using nlohmann::ordered_json;

void add_moment(const memory_moment& at, const std::string& counted_by, std::vector<table_row>& rows) {
    const auto& manager = at.manager;
    rows.push_back({"  tokens", std::to_string(manager.tokens),
                    "of " + std::to_string(manager.running) + " sequences, " + to_string(manager.own)});
    rows.push_back({"  virtual, reserved", to_string(manager.reserved), "addresses of all sequences"});
    rows.push_back({"  virtual, mapped", to_string(manager.mapped), "pages, wherever they are mapped"});
    rows.push_back({"  physical", to_string(manager.physical), "by the library's count"});
    rows.push_back({"  physical, " + counted_by, at.kernel ? to_string(*at.kernel) : "unknown",
                    "by the " + counted_by + "'s count"});
    rows.push_back({"  shared", to_string(manager.shared), "that sharing saves"});
    rows.push_back(
        {"  lazily held", to_string(manager.lazily_held), "pages mapped for sequences that are over"});
}

ordered_json json_of(const memory_moment& at) {
    return {{"manager", ordered_json::parse(vtensor::kv::to_json(at.manager))},
            {"kernel_bytes", at.kernel ? ordered_json(at.kernel->count()) : ordered_json()}};
}

double microseconds_a_step(const batch_figures& figures) {
    return figures.steps == 0 ? 0
                              : 1e6 * seconds_in(figures.end.manager) / static_cast<double>(figures.steps);
}

} // namespace

std::string to_table(const batch_report& report) {
    const batch_figures& figures = report.result.figures;
    const auto& end = figures.end.manager;
    std::vector<table_row> rows{
        speed_row("prefill", figures.prefill_tokens, figures.prefill_seconds),
        speed_row("decode", figures.decode_tokens, figures.decode_seconds),
        {"sequences at once", std::to_string(figures.most_running),
         "of " + std::to_string(report.texts.size()) + ", in " + std::to_string(figures.steps) + " steps"},
        {"prefix hits", with_digits(100 * end.hit_rate(), 1) + " %",
         std::to_string(end.matched_tokens) + " of " + std::to_string(end.prompt_tokens) +
             " tokens needed no computing"},
        {"preemptions", std::to_string(end.preemptions), "sequences that gave their memory up for others"},
        {"manager, a step", with_digits(microseconds_a_step(figures), 1) + " µs",
         with_digits(1e3 * seconds_in(end), 3) + " ms in all"},
        {"KV cache, the busiest step", "", ""},
    };
    add_moment(figures.busiest, report.memory.counted_by, rows);
    rows.push_back({"KV cache, at the end", "", ""});
    add_moment(figures.end, report.memory.counted_by, rows);
    if (report.chosen.huge_pages)
        rows.push_back({"huge pages", "asked for", report.memory.huge_pages});
    return render(rows) + "backend " + name_of(report.chosen.memory) + ": " + report.memory.description +
           "\n";
}

std::string to_json(const batch_report& report) {
    const batch_figures& figures = report.result.figures;
    const settings& chosen = report.chosen;
    ordered_json texts = ordered_json::array();
    for (std::size_t index = 0; index < report.texts.size(); ++index) {
        const completion& one = report.result.completions[index];
        texts.push_back({{"prompt", index / chosen.samples + 1},
                         {"sample", index % chosen.samples + 1},
                         {"seed", chosen.how.seed + index % chosen.samples},
                         {"stopped_by", one.stopped == stop_reason::end_token ? "end_token" : "max_tokens"},
                         {"tokens", one.tokens},
                         {"text", report.texts[index]}});
    }
    const ordered_json root = {{"model", chosen.model.string()},
                               {"backend", report.memory.description},
                               {"huge_pages", report.memory.huge_pages},
                               {"settings", to_json(chosen, chosen.cache.page)},
                               {"steps", figures.steps},
                               {"sequences_at_once", figures.most_running},
                               {"prefill_tokens", figures.prefill_tokens},
                               {"prefill_seconds", figures.prefill_seconds},
                               {"decode_tokens", figures.decode_tokens},
                               {"decode_seconds", figures.decode_seconds},
                               {"manager_microseconds_a_step", microseconds_a_step(figures)},
                               {"busiest_step", json_of(figures.busiest)},
                               {"end", json_of(figures.end)},
                               {"texts", std::move(texts)}};
    return root.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

} // namespace decoder
