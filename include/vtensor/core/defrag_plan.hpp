// SPDX-License-Identifier: Apache-2.0
//
// The words between a defragmentation policy and the memory that carries it out: which rows live, and the
// moves that bring them together. Plain data; who chooses is in policy/defrag, who moves in memory.
#pragma once

#include <vtensor/core/config.hpp>
#include <vtensor/core/rows.hpp>
#include <vtensor/core/units.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::defrag {

/// `count` rows from slot `from` on go to slot `to` on, as `memmove` does it. What was at `to` must be dead;
/// what is left behind means nothing.
struct row_move {
    slot_type from = 0;
    slot_type to = 0;
    std::uint32_t count = 0;

    friend constexpr bool operator==(const row_move&, const row_move&) noexcept = default;
};

/// `count` blocks from `from` on change places with those from `to` on, one after another in ascending order,
/// by mapping their pages anew. So a run of live blocks slides down over dead ones, which end behind it.
struct block_move {
    std::uint32_t from = 0;
    std::uint32_t to = 0;
    std::uint32_t count = 0;

    friend constexpr bool operator==(const block_move&, const block_move&) noexcept = default;
};

/// What a policy plans from.
struct state {
    std::span<const position_type> positions{}; ///< by slot, `no_position` where dead; empty: all rows live
    std::size_t rows = 0;                       ///< slots, live or dead
    bytes row{};                                ///< one row; of all tensors that share the plan
    /// Rows of one block: the smallest number of whole rows that fills whole pages. 0: pages cannot be moved.
    std::size_t block_rows = 0;
    std::size_t block_pages = 0; ///< pages of one block; of all tensors that share the plan

    [[nodiscard]] constexpr bool is_live(std::size_t slot) const noexcept {
        return positions.empty() || positions[slot] != no_position;
    }
};

/// What a policy answers: first `blocks` change places, then `rows` move, each in its order, with slots as
/// they are after the blocks; then the tensor ends at `rows_after`. Every live row must lie below that.
struct plan {
    std::vector<block_move> blocks{};
    std::vector<row_move> rows{};
    std::size_t rows_after = 0;
    std::size_t block_rows = 0; ///< as in `state`

    /// Nothing moves, nothing is cut.
    void reset(const state& from) noexcept {
        blocks.clear();
        rows.clear();
        rows_after = from.rows;
        block_rows = from.block_rows;
    }
    [[nodiscard]] std::size_t rows_copied() const noexcept {
        return std::accumulate(rows.begin(), rows.end(), std::size_t{0},
                               [](std::size_t sum, const row_move& move) { return sum + move.count; });
    }
};

/// What moving costs on one pool, in microseconds; measured by `measure_costs`. All 0: not known.
struct costs {
    double copied_byte = 0;
    double copied_run = 0;    ///< for each row move, beside its bytes
    double remapped_page = 0; ///< until the page can be read again
    double remapped_run = 0;  ///< for each run of neighbours that stay neighbours, beside its pages
    double waited = 0;        ///< for a plan that moves pages at all: queued work must be done first

    [[nodiscard]] constexpr bool known() const noexcept { return copied_byte > 0 && remapped_page > 0; }
};

/// Rows of one block for rows and pages of these sizes; 0 where that is more than a slot can count.
[[nodiscard]] constexpr std::size_t rows_of_block(bytes row, bytes page) noexcept {
    if (row == bytes{0} || page == bytes{0})
        return 0;
    const std::size_t rows = page.count() / std::gcd(row.count(), page.count());
    return rows <= std::numeric_limits<slot_type>::max() ? rows : 0;
}

/// Exchanges of single blocks, in order: `exchange(from, to)`.
template <class Exchange>
constexpr void for_each_exchange(std::span<const block_move> moves, Exchange exchange) {
    for (const block_move& move : moves) {
        for (std::uint32_t index = 0; index < move.count; ++index)
            exchange(std::size_t{move.from} + index, std::size_t{move.to} + index);
    }
}

/// Moves an array that has one value for each slot alike, in place: counters, sums of attention, and so on.
/// `values` has at least as many as there were rows; the first `rows_after` are meaningful afterwards, where
/// their rows live. O(values moved).
template <class V>
void apply(const plan& moves, std::span<V> values) noexcept {
    for_each_exchange(moves.blocks, [&](std::size_t from, std::size_t to) {
        const std::size_t first = from * moves.block_rows;
        const std::size_t second = to * moves.block_rows;
        const std::size_t end = std::max(first, second);
        const std::size_t there = end < values.size() ? std::min(moves.block_rows, values.size() - end) : 0;
        for (std::size_t row = 0; row < there; ++row) // of a block that ends early, the rows that exist
            std::swap(values[first + row], values[second + row]);
    });
    for (const row_move& move : moves.rows) {
        const auto from = values.begin() + static_cast<std::ptrdiff_t>(move.from);
        const auto to = values.begin() + static_cast<std::ptrdiff_t>(move.to);
        if (move.to < move.from)
            std::copy(from, from + move.count, to);
        else
            std::copy_backward(from, from + move.count, to + move.count);
    }
}

} // namespace vtensor::defrag
