// SPDX-License-Identifier: Apache-2.0
//
// Eviction and defragmentation of one tensor or of several that hold the same tokens: all of them or none.
// The steps on each are in memory/defragmentation.hpp; here is their order, and the way back.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/memory/defragmentation.hpp>
#include <vtensor/memory/slot_map.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>
#include <tuple>

namespace vtensor::detail {

/// What is evicted or moved of one tensor. `range` is null for a tensor that was moved from.
template <class Range>
struct tensor_part {
    using range_type = Range;

    Range* range = nullptr;
    slot_map* slots = nullptr;
    std::size_t* rows = nullptr;
    bytes row{};
};

/// Whether the tensors can share one decision: each has the same rows, with the same positions.
template <class First, class... Rest>
[[nodiscard]] bool are_alike(const First& first, const Rest&... rest) noexcept {
    [[maybe_unused]] const auto alike = [&](const auto& other) {
        return other.range != nullptr && other.slots->rows() == first.slots->rows() &&
               std::ranges::equal(other.slots->positions(), first.slots->positions());
    };
    return first.range != nullptr && (alike(rest) && ...);
}

template <class... Part>
[[nodiscard]] status prepare_eviction_together(std::span<const slot_type> kept,
                                               const Part&... parts) noexcept {
    if (!are_alike(parts...))
        return error{errc::invalid_argument, verb::evict, 0, bytes{0}};
    status outcome;
    static_cast<void>(((outcome = parts.slots->prepare_eviction(kept), outcome.ok()) && ...));
    return outcome;
}

template <class... Part>
[[nodiscard]] status evict_together(std::span<const slot_type> kept, const Part&... parts) noexcept {
    const status outcome = prepare_eviction_together(kept, parts...);
    if (outcome)
        (parts.slots->evict(kept), ...);
    return outcome;
}

/// Rows of the smallest block that is whole pages in every tensor; 0 where there is none to count.
[[nodiscard]] constexpr std::size_t common_block(std::size_t one, std::size_t other) noexcept {
    if (one == 0 || other == 0)
        return 0;
    const std::size_t times = other / std::gcd(one, other);
    return one <= std::numeric_limits<slot_type>::max() / times ? one * times : 0;
}

template <class First, class... Rest>
[[nodiscard]] defrag::state state_of(const First& first, const Rest&... rest) noexcept {
    defrag::state now{first.slots->positions(), first.slots->rows(), first.row};
    now.block_rows = defrag::rows_of_block(first.row, first.range->page_size());
    [[maybe_unused]] const auto join = [&](const auto& other) {
        now.row += other.row;
        now.block_rows =
            common_block(now.block_rows, defrag::rows_of_block(other.row, other.range->page_size()));
    };
    (join(rest), ...);
    const auto pages = [&](const auto& part) { return part.row * now.block_rows / part.range->page_size(); };
    now.block_pages = pages(first) + (pages(rest) + ... + std::size_t{0});
    return now;
}

/// Where the backend refused to put a page back, the rows from that page on are lost, of all tensors: they
/// hold the same tokens.
template <class... Part>
void cut_what_is_lost(const Part&... parts) noexcept {
    const auto there = [](const auto& part) {
        return std::min(*part.rows, part.range->accessible() * part.range->page_size() / part.row);
    };
    const std::size_t left = std::min({there(parts)...});
    const auto cut = [&](const auto& part) {
        if (*part.rows > left) {
            part.slots->resize(left);
            *part.rows = left;
        }
    };
    (cut(parts), ...);
}

/// All tensors move by the policy's plan, which is in `moves` afterwards, or none does. `stream` is null
/// where the CPU moves the rows.
template <class Policy, class Stream, class... Part>
[[nodiscard]] status defragment_together(const Policy& policy, defrag::plan& moves, const Stream* stream,
                                         const Part&... parts) noexcept {
    if (!are_alike(parts...))
        return error{errc::invalid_argument, verb::defragment, 0, bytes{0}};
    if (const status planned = policy.plan(state_of(parts...), moves); !planned)
        return planned;
    std::tuple steps{defragmentation<typename Part::range_type>{*parts.range, *parts.slots, parts.row}...};
    status outcome;
    const auto all = [&](auto step) {
        std::apply([&](auto&... one) { static_cast<void>(((outcome = step(one), outcome.ok()) && ...)); },
                   steps);
        return outcome.ok();
    };
    if (!all([&](auto& one) { return one.prepare(moves, stream); }))
        return outcome;
    if (all([&](auto& one) { return one.move_pages(stream); }) &&
        all([&](auto& one) { return one.make_writable(stream); }) &&
        all([&](auto& one) { return one.move_rows(stream); })) {
        std::apply([&](auto&... one) { (one.finish(stream), ...); }, steps);
        ((*parts.rows = moves.rows_after), ...);
        return {};
    }
    std::apply([&](auto&... one) { (one.undo(stream), ...); }, steps);
    cut_what_is_lost(parts...);
    return outcome;
}

} // namespace vtensor::detail
