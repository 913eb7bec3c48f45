// SPDX-License-Identifier: Apache-2.0
//
// From the slots of a head to its columns: the live rows by position.
#pragma once

#include <vtensor/policy/eviction/part.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vtensor::eviction::detail {

/// Room to sort in, as long as what is sorted.
struct sorting_room {
    std::vector<position_type> positions;
    std::vector<slot_type> slots;
};

/// Sorts both arrays by position. O(n): a byte of the positions a pass.
inline void sort_by_position(std::span<position_type> positions, std::span<slot_type> slots,
                             sorting_room& room) {
    const std::size_t n = positions.size();
    if (room.positions.size() < n)
        room.positions.resize(n);
    if (room.slots.size() < n)
        room.slots.resize(n);
    std::span<position_type> other_positions{room.positions.data(), n};
    std::span<slot_type> other_slots{room.slots.data(), n};
    for (unsigned shift = 0; shift < 32; shift += 8) {
        std::array<std::size_t, 257> starts{};
        const auto digit = [shift](position_type position) { return (position >> shift) & 255u; };
        for (const position_type position : positions)
            ++starts[digit(position) + 1];
        for (std::size_t value = 1; value < starts.size(); ++value)
            starts[value] += starts[value - 1];
        for (std::size_t index = 0; index < n; ++index) {
            const std::size_t target = starts[digit(positions[index])]++;
            other_positions[target] = positions[index];
            other_slots[target] = slots[index];
        }
        std::swap(positions, other_positions);
        std::swap(slots, other_slots);
    } // an even number of passes: sorted where they came from
}

/// Fills in the columns of a head of `shown` rows. `positions` and `slots` have room for them. False where a
/// position occurs twice.
inline bool arrange(const head_rows& shown, head_columns& head, std::span<position_type> positions,
                    std::span<slot_type> slots, sorting_room& room) {
    if (shown.positions == nullptr) {
        head.count = shown.rows;
        head.slots = nullptr;
        head.positions = nullptr;
        return true;
    }
    std::size_t count = 0;
    for (std::size_t row = 0; row < shown.rows; ++row) {
        positions[count] = shown.positions[row];
        slots[count] = static_cast<slot_type>(row);
        count += shown.positions[row] != no_position;
    }
    const auto live = positions.first(count);
    if (!std::is_sorted(live.begin(), live.end()))
        sort_by_position(live, slots.first(count), room);
    head.count = count;
    head.positions = positions.data();
    const bool all_in_place =
        count == shown.rows &&
        std::is_sorted(slots.begin(), slots.begin() + static_cast<std::ptrdiff_t>(count));
    head.slots = all_in_place ? nullptr : slots.data();
    return std::adjacent_find(live.begin(), live.end()) == live.end();
}

} // namespace vtensor::eviction::detail
