// SPDX-License-Identifier: Apache-2.0
//
// Guards: rows that stay whatever their score and the budget are. They are masks, not large scores, so that
// ties and small budgets cannot evict them. A composition may have several.
#pragma once

#include <vtensor/policy/eviction/part.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace vtensor::eviction::guard {

/// The first `tokens` positions of the sequence: attention sinks (StreamingLLM, arXiv 2309.17453).
template <std::size_t Tokens = 4>
struct sinks {
    using category = part::guard;
    std::size_t tokens = Tokens;

    /// Positions at the beginning.
    [[nodiscard]] constexpr std::size_t sink_positions() const noexcept { return tokens; }
    [[nodiscard]] constexpr bool keeps(position_type position, position_type) const noexcept {
        return position < tokens;
    }
};

/// The last `tokens` positions, as SnapKV (arXiv 2404.14469) keeps its observation window. Rows in there are
/// not scored at all, nor do they take part in pooling.
template <std::size_t Tokens = 32>
struct recent {
    using category = part::guard;
    std::size_t tokens = Tokens;

    /// Positions in the recent window.
    [[nodiscard]] constexpr std::size_t window() const noexcept { return tokens; }
    [[nodiscard]] constexpr bool keeps(position_type position, position_type next) const noexcept {
        return std::size_t{position} + tokens >= next;
    }
};

/// The positions whose entry is not 0; those beyond the end of `positions` are not guarded. The array belongs
/// to the caller.
struct mask {
    using category = part::guard;
    std::span<const std::uint8_t> positions{};

    [[nodiscard]] constexpr bool keeps(position_type position, position_type) const noexcept {
        return position < positions.size() && positions[position] != 0;
    }
};

} // namespace vtensor::eviction::guard
