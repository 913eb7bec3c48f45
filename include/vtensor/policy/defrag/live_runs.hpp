// SPDX-License-Identifier: Apache-2.0
//
// Walks over a tensor's slots as runs of live and of dead ones: what all defragmentation policies have in
// common. Nothing here allocates, except `planned`, which turns a lack of memory into a status.
#pragma once

#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/core/error.hpp>

#include <cstddef>
#include <cstdint>
#include <new>

namespace vtensor::defrag::detail {

/// Slots [first, end).
struct slot_run {
    std::size_t first = 0;
    std::size_t end = 0;

    [[nodiscard]] constexpr std::size_t size() const noexcept { return end - first; }
};

/// The first slot of [from, end) that is live, or dead; `end` where there is none.
[[nodiscard]] constexpr std::size_t find(const state& of, bool live, std::size_t from,
                                         std::size_t end) noexcept {
    while (from < end && of.is_live(from) != live)
        ++from;
    return from;
}

/// The next run of live, or dead, slots in [from, end); empty at `end` where there is none.
[[nodiscard]] constexpr slot_run next_run(const state& of, bool live, std::size_t from,
                                          std::size_t end) noexcept {
    const std::size_t first = find(of, live, from, end);
    return {first, find(of, !live, first, end)};
}

/// The last run of live slots in [from, end); empty at `from` where there is none.
[[nodiscard]] constexpr slot_run last_live_run(const state& of, std::size_t from, std::size_t end) noexcept {
    while (end > from && !of.is_live(end - 1))
        --end;
    std::size_t first = end;
    while (first > from && of.is_live(first - 1))
        --first;
    return {first, end};
}

[[nodiscard]] constexpr std::size_t count_live(const state& of, std::size_t from, std::size_t end) noexcept {
    if (of.positions.empty())
        return end - from;
    std::size_t count = 0;
    for (std::size_t slot = from; slot < end; ++slot)
        count += of.positions[slot] != no_position ? 1u : 0u;
    return count;
}

/// Behind the last live slot.
[[nodiscard]] constexpr std::size_t live_end(const state& of) noexcept {
    return last_live_run(of, 0, of.rows).end;
}

[[nodiscard]] inline row_move move_of(std::size_t from, std::size_t to, std::size_t count) noexcept {
    return {static_cast<slot_type>(from), static_cast<slot_type>(to), static_cast<std::uint32_t>(count)};
}

/// Runs `build(plan)`, which may run out of memory, on a plan that moves nothing yet.
template <class Build>
[[nodiscard]] status planned(const state& from, plan& into, Build build) noexcept {
    into.reset(from);
    try {
        build(into);
    } catch (const std::bad_alloc&) {
        into.reset(from);
        return error{errc::out_of_memory, verb::defragment, 0, bytes{from.rows * sizeof(row_move)}};
    }
    return {};
}

} // namespace vtensor::defrag::detail
