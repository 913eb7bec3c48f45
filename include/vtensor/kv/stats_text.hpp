// SPDX-License-Identifier: Apache-2.0
//
// A manager's statistics as text, for logs and for a metrics endpoint.
#pragma once

#include <vtensor/kv/manager_stats.hpp>

#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>

namespace vtensor::kv {

namespace detail {

/// Every figure but those of the verbs: `visit(name, is_counter, help, value)`. Bytes are bytes.
template <class Visit>
void for_each_figure(const manager_stats& of, Visit visit) {
    visit("running", false, "sequences that run", std::uint64_t{of.running});
    visit("preempted", false, "sequences that gave their memory up", std::uint64_t{of.preempted});
    visit("tokens", false, "tokens of running sequences", std::uint64_t{of.tokens});
    visit("reserved_bytes", false, "addresses of all caches", std::uint64_t{of.reserved.count()});
    visit("mapped_bytes", false, "pages of all caches, wherever they are mapped",
          std::uint64_t{of.mapped.count()});
    visit("physical_bytes", false, "memory behind the pages", std::uint64_t{of.physical.count()});
    visit("shared_bytes", false, "memory that sharing saves", std::uint64_t{of.shared.count()});
    visit("lazily_held_bytes", false, "pages that no sequence runs on",
          std::uint64_t{of.lazily_held.count()});
    visit("recorded_bytes", false, "of the lazily held, with rows that can be matched",
          std::uint64_t{of.recorded.count()});
    visit("own_bytes", false, "keys and values of running sequences", std::uint64_t{of.own.count()});
    visit("waste_bytes", false, "part pages and pages mapped ahead", std::uint64_t{of.waste.count()});
    visit("swapped_bytes", false, "rows of preempted sequences in the host's memory",
          std::uint64_t{of.swapped.count()});
    visit("prompt_tokens", true, "tokens of sequences created and resumed", of.prompt_tokens);
    visit("matched_tokens", true, "of them, found in the prefix tree", of.matched_tokens);
    visit("adopted_tokens", true, "of them, whose pages were mapped still", of.adopted_tokens);
    visit("preemptions", true, "sequences preempted", of.preemptions);
    visit("look_ahead_failures", true, "pages that could not be mapped ahead", of.look_ahead_failures);
}

} // namespace detail

/// One JSON object: the figures by name, and `verbs`: {"create": {"calls", "failures", "microseconds"}, …}.
[[nodiscard]] inline std::string to_json(const manager_stats& of) {
    std::ostringstream out;
    out << '{';
    detail::for_each_figure(of, [&](std::string_view name, bool, std::string_view, std::uint64_t value) {
        out << '"' << name << "\":" << value << ',';
    });
    out << "\"hit_rate\":" << of.hit_rate() << ",\"verbs\":{";
    for (std::size_t index = 0; index < of.verbs.size(); ++index) {
        const verb_figures& one = of.verbs[index];
        out << (index == 0 ? "\"" : ",\"") << manager_verb_names[index] << "\":{\"calls\":" << one.calls
            << ",\"failures\":" << one.failures << ",\"microseconds\":" << one.nanoseconds / 1000 << '}';
    }
    out << "}}";
    return out.str();
}

/// The text format of Prometheus, version 0.0.4: gauges, and counters with names that end in `_total`.
[[nodiscard]] inline std::string to_prometheus(const manager_stats& of,
                                               std::string_view prefix = "vtensor_kv_") {
    std::ostringstream out;
    const auto head = [&](std::string_view name, bool counts, std::string_view help) {
        out << "# HELP " << prefix << name << (counts ? "_total " : " ") << help << '\n'
            << "# TYPE " << prefix << name << (counts ? "_total counter\n" : " gauge\n");
    };
    detail::for_each_figure(
        of, [&](std::string_view name, bool counts, std::string_view help, std::uint64_t value) {
            head(name, counts, help);
            out << prefix << name << (counts ? "_total " : " ") << value << '\n';
        });
    const auto of_verbs = [&](std::string_view name, std::string_view help, auto figure) {
        head(name, true, help);
        for (std::size_t index = 0; index < of.verbs.size(); ++index)
            out << prefix << name << "_total{verb=\"" << manager_verb_names[index] << "\"} "
                << figure(of.verbs[index]) << '\n';
    };
    of_verbs("calls", "calls by verb", [](const verb_figures& one) { return one.calls; });
    of_verbs("failures", "calls that failed, by verb", [](const verb_figures& one) { return one.failures; });
    of_verbs("seconds", "time of the calling thread, by verb",
             [](const verb_figures& one) { return static_cast<double>(one.nanoseconds) * 1e-9; });
    return out.str();
}

} // namespace vtensor::kv
