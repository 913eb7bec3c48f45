// SPDX-License-Identifier: Apache-2.0
//
// Which keys a query sees: causality, the sliding window and its sinks, on positions. Nothing here touches
// keys or values.
#pragma once

#include <vtensor/attention/problem.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace vtensor::attention::detail {

/// Rows [0, sinks_end) and [first, last), `sinks_end` ≤ `first` ≤ `last`.
struct row_ranges {
    std::size_t sinks_end = 0;
    std::size_t first = 0;
    std::size_t last = 0;
};

/// The mask as a rule on positions. Positions are signed here: a query may stand before every key.
class visibility {
  public:
    explicit constexpr visibility(const options& chosen) noexcept
        : causal_{chosen.causal}, window_{clamped(chosen.window)}, sinks_{clamped(chosen.sinks)} {}

    /// True where the query at position `query` sees the key at position `key`; an evicted one no query sees.
    [[nodiscard]] constexpr bool sees(std::int64_t query, std::int64_t key) const noexcept {
        return key != static_cast<std::int64_t>(no_position) && (!causal_ || key <= query) &&
               (key < sinks_ || key > query - window_);
    }

    /// What the query sees of `rows` rows whose positions are 0, 1, 2, …
    [[nodiscard]] constexpr row_ranges rows_seen(std::int64_t query, std::size_t rows) const noexcept {
        const auto end = static_cast<std::int64_t>(rows);
        const std::int64_t last = causal_ ? std::clamp<std::int64_t>(query + 1, 0, end) : end;
        const std::int64_t first = std::clamp<std::int64_t>(query - window_ + 1, 0, last);
        const std::int64_t sinks_end = std::min(sinks_, first);
        return {.sinks_end = static_cast<std::size_t>(sinks_end),
                .first = static_cast<std::size_t>(first),
                .last = static_cast<std::size_t>(last)};
    }

  private:
    // Far beyond every position, and far from overflow when positions are added.
    static constexpr std::int64_t unlimited = std::int64_t{1} << 62;

    static constexpr std::int64_t clamped(std::size_t count) noexcept {
        return count >= static_cast<std::size_t>(unlimited) ? unlimited : static_cast<std::int64_t>(count);
    }

    bool causal_;
    std::int64_t window_;
    std::int64_t sinks_;
};

/// The position of row `row`.
template <class T>
[[nodiscard]] constexpr std::int64_t position_of(const kv_head<T>& head, std::size_t row) noexcept {
    return head.positions == nullptr ? static_cast<std::int64_t>(row)
                                     : static_cast<std::int64_t>(head.positions[row]);
}

/// True where row `row` was evicted: what it holds means nothing, and may be no number.
template <class T>
[[nodiscard]] constexpr bool is_dead(const kv_head<T>& head, std::size_t row) noexcept {
    return head.positions != nullptr && head.positions[row] == no_position;
}

/// The position of query 0 of the sequence; negative where there are more queries than rows and the caller
/// gave none.
template <class T, class Query>
[[nodiscard]] constexpr std::int64_t first_query_position(const sequence<T, Query>& one) noexcept {
    if (one.first_position)
        return static_cast<std::int64_t>(*one.first_position);
    std::size_t longest = 0;
    for (const kv_head<T>& head : one.heads)
        longest = std::max(longest, head.rows);
    return static_cast<std::int64_t>(longest) - static_cast<std::int64_t>(one.queries.extents[0]);
}

/// The factor on the products of query and key.
[[nodiscard]] inline float scale_of(const options& chosen, std::size_t key_width) noexcept {
    return chosen.scale ? *chosen.scale : 1.0f / std::sqrt(static_cast<float>(key_width));
}

} // namespace vtensor::attention::detail
