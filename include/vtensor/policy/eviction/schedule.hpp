// SPDX-License-Identifier: Apache-2.0
//
// Schedules: when to choose. An engine asks after every step of a sequence, behind the step's attention.
#pragma once

#include <vtensor/policy/eviction/part.hpp>

#include <cstddef>

namespace vtensor::eviction {

/// Where a sequence stands after a step.
struct progress {
    std::size_t tokens = 0;     ///< seen so far, evicted ones included
    std::size_t steps = 0;      ///< tokens decoded since the prompt
    std::size_t rows = 0;       ///< live rows of the longest head
    std::size_t evictions = 0;  ///< choices made so far
    bool prefill_ended = false; ///< the step was the last one of a prompt
};

namespace schedule {

/// At the end of the first prompt.
struct once_after_prefill {
    using category = part::schedule;
    [[nodiscard]] constexpr bool due(const progress& now) const noexcept {
        return now.prefill_ended && now.evictions == 0;
    }
};

/// Whenever the tokens seen are a multiple of `tokens`, and at the end of every prompt.
template <std::size_t Tokens = 1>
struct every {
    using category = part::schedule;
    std::size_t tokens = Tokens; ///< at least 1

    [[nodiscard]] constexpr bool valid() const noexcept { return tokens > 0; }
    [[nodiscard]] constexpr bool due(const progress& now) const noexcept {
        return now.prefill_ended || now.tokens % tokens == 0;
    }
};

/// Whenever the decoding steps are a multiple of `steps` and the rows have grown above `rows`: LazyEviction
/// (arXiv 2506.15969) waits so, that recurrences can be observed in between.
template <std::size_t Rows, std::size_t Steps>
struct lagged {
    using category = part::schedule;
    std::size_t rows = Rows;
    std::size_t steps = Steps; ///< at least 1

    [[nodiscard]] constexpr bool valid() const noexcept { return steps > 0; }
    [[nodiscard]] constexpr bool due(const progress& now) const noexcept {
        return now.rows > rows && now.steps % steps == 0;
    }
};

} // namespace schedule
} // namespace vtensor::eviction
