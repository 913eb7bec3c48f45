// SPDX-License-Identifier: Apache-2.0
//
// Whole dead blocks of pages leave; live ones slide down by being mapped at their new place.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/policy/defrag/live_runs.hpp>

#include <algorithm>
#include <cstdint>

namespace vtensor::defrag {

/// Copies nothing and keeps the order. Dead rows in blocks that have live ones stay dead. Where the rows and
/// pages of a tensor fit so badly that a block is longer than the tensor, only dead rows at the end leave.
/// O(rows).
struct remap {
    [[nodiscard]] status plan(const state& from, defrag::plan& into) const noexcept {
        return detail::planned(from, into, [&](defrag::plan& moves) {
            const std::size_t end = detail::live_end(from);
            moves.rows_after = end;
            if (from.block_rows == 0 || from.positions.empty())
                return;
            std::size_t kept = 0;
            const std::size_t blocks = (end + from.block_rows - 1) / from.block_rows;
            for (std::size_t block = 0; block < blocks; ++block) {
                const std::size_t first = block * from.block_rows;
                const std::size_t last = std::min(first + from.block_rows, end);
                if (!detail::any_live(from, first, last))
                    continue;
                if (block != kept)
                    add(moves, block, kept);
                ++kept;
            }
            moves.rows_after = end - (blocks - kept) * from.block_rows;
        });
    }

  private:
    static void add(defrag::plan& moves, std::size_t block, std::size_t to) {
        const auto from_block = static_cast<std::uint32_t>(block);
        const auto to_block = static_cast<std::uint32_t>(to);
        if (!moves.blocks.empty()) {
            block_move& last = moves.blocks.back();
            if (last.from + last.count == from_block && last.to + last.count == to_block) {
                ++last.count;
                return;
            }
        }
        moves.blocks.push_back({from_block, to_block, 1});
    }
};

static_assert(defrag_policy<remap, state, plan>);

} // namespace vtensor::defrag
