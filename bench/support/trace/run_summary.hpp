// SPDX-License-Identifier: Apache-2.0
//
// A run in a few figures. Means are over the simulated time in which something ran.
#pragma once

#include "kv_shape.hpp"
#include "run_record.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

namespace vtensor::bench {

/// Memory by one of its counts, against the bytes of the different tokens that the live sequences have.
struct memory_summary {
    double peak = 0;          ///< bytes
    double mean = 0;          ///< bytes
    double ratio_at_peak = 0; ///< to the tokens' own bytes at the peak; where it lasts, at its fullest
    double worst_ratio = 0;   ///< at any step
};

/// Seconds of memory management a step.
struct step_times {
    double mean = 0;
    double p99 = 0; ///< the smallest that 99 % of the steps do not exceed
    double most = 0;
};

struct run_summary {
    memory_summary held;
    memory_summary physical;
    double kept_mean = 0;  ///< bytes
    double waste_mean = 0; ///< bytes held beyond the tokens' own
    double sequences_mean = 0;
    std::size_t sequences_peak = 0;
    double requests_per_second = 0;
    double hit_rate = 0; ///< share of the prompts' tokens that were matched
    step_times managing; ///< of all steps
    step_times steady;   ///< of those that only decode
    double share = 0;    ///< of managing in managing and computing
};

namespace detail {

[[nodiscard]] inline step_times summarize_times(std::vector<double> seconds) {
    if (seconds.empty())
        return {};
    std::ranges::sort(seconds);
    double sum = 0;
    for (const double one : seconds)
        sum += one;
    const auto count = static_cast<double>(seconds.size());
    return {sum / count, seconds[static_cast<std::size_t>(std::ceil(0.99 * count)) - 1], seconds.back()};
}

} // namespace detail

[[nodiscard]] inline run_summary summarize(const run_record& record, const kv_shape& shape) {
    run_summary found;
    double time = 0;
    double managing = 0;
    std::vector<double> all;
    std::vector<double> steady;
    const auto add = [](memory_summary& into, bytes memory, double own, double seconds) {
        const auto size = static_cast<double>(memory.count());
        into.mean += size * seconds;
        into.worst_ratio = std::max(into.worst_ratio, size / own);
        if (size > into.peak || (size == into.peak && size / own < into.ratio_at_peak)) {
            into.peak = size;
            into.ratio_at_peak = size / own;
        }
    };
    for (const step_record& step : record.steps) {
        const double own = static_cast<double>((shape.token() * step.distinct).count());
        add(found.held, step.memory.held, own, step.computing);
        add(found.physical, step.memory.physical, own, step.computing);
        found.kept_mean += static_cast<double>(step.memory.kept.count()) * step.computing;
        found.waste_mean += (static_cast<double>(step.memory.held.count()) - own) * step.computing;
        found.sequences_mean += static_cast<double>(step.sequences) * step.computing;
        found.sequences_peak = std::max(found.sequences_peak, step.sequences);
        time += step.computing;
        managing += step.managing;
        all.push_back(step.managing);
        if (step.steady)
            steady.push_back(step.managing);
    }
    if (time > 0) {
        for (double* const sum : {&found.held.mean, &found.physical.mean, &found.kept_mean, &found.waste_mean,
                                  &found.sequences_mean})
            *sum /= time;
        found.share = managing / (managing + time);
    }
    if (record.seconds > 0)
        found.requests_per_second = static_cast<double>(record.finished) / record.seconds;
    if (record.prompt_tokens > 0)
        found.hit_rate =
            static_cast<double>(record.matched_tokens) / static_cast<double>(record.prompt_tokens);
    found.managing = detail::summarize_times(std::move(all));
    found.steady = detail::summarize_times(std::move(steady));
    return found;
}

} // namespace vtensor::bench
