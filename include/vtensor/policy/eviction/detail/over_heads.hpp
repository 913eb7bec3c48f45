// SPDX-License-Identifier: Apache-2.0
//
// Columns grouped by position: windows of a head, and sums over the heads of a layer. Heads may hold
// different rows, so that they meet by position.
#pragma once

#include <vtensor/policy/eviction/part.hpp>

#include <cstddef>

namespace vtensor::eviction::detail {

/// Calls visit(first, last) for every run of scored columns whose positions lie in the same `width` of them.
template <class Visit>
void for_each_window(const head_columns& head, std::size_t width, Visit&& visit) {
    for (std::size_t first = 0; first < head.scored;) {
        const std::size_t window = head.position(first) / width;
        std::size_t last = first + 1;
        while (last < head.scored && head.position(last) / width == window)
            ++last;
        visit(first, last);
        first = last;
    }
}

/// Calls visit(column, position) for every scored column.
template <class Visit>
void for_each_position(const head_columns& head, Visit&& visit) {
    if (head.positions == nullptr)
        for (std::size_t column = 0; column < head.scored; ++column)
            visit(column, column);
    else
        for (std::size_t column = 0; column < head.scored; ++column)
            visit(column, head.positions[column]);
}

/// Makes every score the mean over the heads that hold a row of that position. O(rows).
inline void average_over_heads(layer_columns& layer) {
    auto& sums = layer.scratch->by_position;
    auto& counts = layer.scratch->counts;
    if (sums.size() < layer.next_position)
        sums.resize(layer.next_position);
    if (counts.size() < layer.next_position)
        counts.resize(layer.next_position);
    for (const head_columns& head : layer.heads)
        for_each_position(head, [&](std::size_t, std::size_t position) {
            sums[position] = 0;
            counts[position] = 0;
        });
    for (const head_columns& head : layer.heads)
        for_each_position(head, [&](std::size_t column, std::size_t position) {
            sums[position] += head.scores[column];
            ++counts[position];
        });
    for (head_columns& head : layer.heads)
        for_each_position(head, [&](std::size_t column, std::size_t position) {
            head.scores[column] = sums[position] / static_cast<float>(counts[position]);
        });
}

} // namespace vtensor::eviction::detail
