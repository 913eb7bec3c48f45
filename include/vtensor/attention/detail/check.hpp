// SPDX-License-Identifier: Apache-2.0
//
// The refusals: everything that makes a problem malformed, found before the first output is written. All
// policies share them, so that they refuse the same.
#pragma once

#include <vtensor/attention/problem.hpp>

#include <algorithm>
#include <array>
#include <cmath>

namespace vtensor::attention::detail {

/// True where the elements of a row lie side by side.
template <class T>
[[nodiscard]] constexpr bool has_contiguous_rows(const tensor_view<T, 3>& view) noexcept {
    return view.extents[2] <= 1 || view.strides[2] == 1;
}

/// True where no two rows of the view share an element, so that tasks may write them at the same time.
template <class T>
[[nodiscard]] constexpr bool has_separate_rows(const tensor_view<T, 3>& view) noexcept {
    const auto magnitude = [](std::ptrdiff_t stride) {
        return static_cast<std::size_t>(stride < 0 ? -stride : stride);
    };
    if (view.size() == 0)
        return true;
    std::size_t outer = 0;
    std::size_t inner = 1;
    if (magnitude(view.strides[outer]) < magnitude(view.strides[inner]))
        std::swap(outer, inner);
    const std::size_t width = view.extents[2];
    const bool inner_apart = view.extents[inner] <= 1 || magnitude(view.strides[inner]) >= width;
    const std::size_t reach =
        view.extents[inner] <= 1 ? width : magnitude(view.strides[inner]) * (view.extents[inner] - 1) + width;
    return inner_apart && (view.extents[outer] <= 1 || magnitude(view.strides[outer]) >= reach);
}

[[nodiscard]] constexpr bool is_well_formed(const options& chosen) noexcept {
    if (chosen.scale && !(*chosen.scale - *chosen.scale == 0.0f)) // infinite or not a number
        return false;
    return chosen.window >= 1;
}

template <class T>
[[nodiscard]] constexpr bool is_well_formed(const kv_head<T>& head) noexcept {
    return head.rows == 0 || (head.keys != nullptr && head.values != nullptr);
}

template <class T, class Query>
[[nodiscard]] constexpr bool has_well_formed_scores(const sequence<T, Query>& one) noexcept {
    const auto& scores = one.scores;
    if (scores.data == nullptr)
        return true;
    return scores.extents[0] == one.queries.extents[1] && scores.extents[1] <= one.queries.extents[0] &&
           has_contiguous_rows(scores) && has_separate_rows(scores) &&
           std::ranges::all_of(one.heads,
                               [&](const kv_head<T>& head) { return head.rows <= scores.extents[2]; });
}

template <class T, class Query>
[[nodiscard]] constexpr bool is_well_formed(const sequence<T, Query>& one) noexcept {
    const auto& queries = one.queries;
    const auto& output = one.output;
    if (queries.extents[0] != output.extents[0] || queries.extents[1] != output.extents[1])
        return false;
    if (!std::ranges::all_of(one.heads, [](const kv_head<T>& head) { return is_well_formed(head); }))
        return false;
    const bool has_positions =
        std::ranges::any_of(one.heads, [](const kv_head<T>& head) { return head.positions != nullptr; });
    if (has_positions && !one.first_position)
        return false;
    if (queries.extents[0] == 0)
        return has_well_formed_scores(one);
    if (queries.extents[1] == 0 || one.heads.empty() || queries.extents[1] % one.heads.size() != 0)
        return false;
    if (queries.extents[2] == 0 || output.extents[2] == 0 || queries.data == nullptr ||
        output.data == nullptr)
        return false;
    return has_contiguous_rows(queries) && has_contiguous_rows(output) && has_separate_rows(output) &&
           has_well_formed_scores(one);
}

/// Success, or `invalid_argument` where any part of the problem is malformed. O(sequences × KV heads).
template <class T, class Query>
[[nodiscard]] constexpr status check(const problem<T, Query>& asked) noexcept {
    const bool well_formed = is_well_formed(asked.options) &&
                             std::ranges::all_of(asked.sequences, [](const sequence<T, Query>& one) {
                                 return is_well_formed(one);
                             });
    if (!well_formed)
        return error{.code = errc::invalid_argument, .where = verb::attend};
    return {};
}

} // namespace vtensor::attention::detail
