// SPDX-License-Identifier: Apache-2.0
//
// The highest of many columns, of one head or of several together, without sorting them.
#pragma once

#include <vtensor/policy/eviction/part.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace vtensor::eviction::detail {

/// What competes in one head: `values` of `count` columns, without those whose `excluded` is 1. The winners'
/// `marks` become 1; those of excluded columns may.
struct contest {
    const float* values = nullptr;
    const std::uint8_t* excluded = nullptr;
    std::uint8_t* marks = nullptr;
    std::size_t count = 0;
};

/// marks[j] |= values[j] > bar.
inline void mark_above(std::uint8_t* __restrict marks, const float* __restrict values, float bar,
                       std::size_t n) noexcept {
    for (std::size_t j = 0; j < n; ++j)
        marks[j] |= static_cast<std::uint8_t>(values[j] > bar);
}

/// Marks the `wanted` highest columns of all `heads` together; of equal ones the newer, and of those with one
/// position that of the lower head. Values must be finite. O(columns) by nth_element.
template <class ContestOf>
void mark_top(std::span<head_columns> heads, std::size_t wanted, const ContestOf& contest_of,
              scratch_memory& scratch) {
    std::size_t columns = 0;
    for (const head_columns& head : heads)
        columns += contest_of(head).count;
    if (scratch.values.size() < columns + 1)
        scratch.values.resize(columns + 1); // one more: written without a branch
    float* const values = scratch.values.data();
    std::size_t found = 0;
    for (const head_columns& head : heads) {
        const contest one = contest_of(head);
        for (std::size_t column = 0; column < one.count; ++column) {
            values[found] = one.values[column];
            found += one.excluded[column] == 0;
        }
    }
    if (wanted == 0)
        return;
    if (wanted >= found) {
        for (const head_columns& head : heads) {
            const contest one = contest_of(head);
            std::fill_n(one.marks, one.count, std::uint8_t{1});
        }
        return;
    }
    float* const last = values + wanted - 1;
    std::nth_element(values, last, values + found, std::greater<>{});
    const float bar = *last;
    const auto above =
        static_cast<std::size_t>(std::count_if(values, last, [=](float v) { return v > bar; }));

    auto& ties = scratch.ties;
    ties.clear();
    for (std::size_t number = 0; number < heads.size(); ++number) {
        const contest one = contest_of(heads[number]);
        for (std::size_t column = 0; column < one.count; ++column)
            if (one.values[column] == bar && one.excluded[column] == 0)
                ties.push_back({.position = heads[number].position(column),
                                .head = static_cast<std::uint32_t>(number),
                                .column = static_cast<std::uint32_t>(column)});
    }
    for (const head_columns& head : heads) {
        const contest one = contest_of(head);
        mark_above(one.marks, one.values, bar, one.count);
    }
    const std::size_t chosen = wanted - above;
    if (chosen < ties.size())
        std::nth_element(ties.begin(), ties.begin() + static_cast<std::ptrdiff_t>(chosen), ties.end(),
                         [](const tied_column& a, const tied_column& b) {
                             return a.position != b.position ? a.position > b.position : a.head < b.head;
                         });
    for (std::size_t index = 0; index < chosen; ++index) {
        const tied_column& tie = ties[index];
        contest_of(heads[tie.head]).marks[tie.column] = 1;
    }
}

} // namespace vtensor::eviction::detail
