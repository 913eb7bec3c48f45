// SPDX-License-Identifier: Apache-2.0
//
// Copies rows where that is cheap and maps pages anew where that is cheaper, by costs that were measured.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/policy/defrag/block_swaps.hpp>
#include <vtensor/policy/defrag/live_runs.hpp>
#include <vtensor/policy/defrag/remap.hpp>
#include <vtensor/policy/defrag/swap_with_last.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::defrag {

/// Gives back as many pages as dense rows would, in the cheapest of three ways: copying as `swap_with_last`;
/// the same after full blocks behind the end have changed places with sparse ones before it; `remap`, where
/// that alone frees these pages. The order is not kept. Without known costs it copies. O(rows + blocks log
/// blocks).
struct hybrid {
    costs measured{};

    [[nodiscard]] status plan(const state& from, defrag::plan& into) const noexcept {
        if (!measured.known() || from.block_rows == 0 || !worth_remapping(from))
            return swap_with_last{}.plan(from, into);
        const sliding slides = by_sliding(from);
        if (slides.cost <= slides.least_copying && slides.cost <= beyond_planning * slides.least_swapping)
            return remap{}.plan(from, into);
        const status outcome = swap_with_last{}.plan(from, into);
        if (!outcome || into.rows.empty())
            return outcome;
        try {
            return choose(from, slides, into);
        } catch (const std::bad_alloc&) { // the plan that copies stands
            return {};
        }
    }

  private:
    /// `remap`, and what the other ways cost at least.
    struct sliding {
        double cost = never; ///< where it frees the pages that dense rows do
        double least_copying = 0;
        double least_swapping = 0;
    };
    /// Two kinds of moves cost more than is counted, to be planned and to be carried out.
    static constexpr double beyond_planning = 1.25;
    static constexpr double never = std::numeric_limits<double>::infinity();

    [[nodiscard]] double copying(const state& from, std::size_t rows, std::size_t runs) const noexcept {
        return static_cast<double>(rows) * static_cast<double>(from.row.count()) * measured.copied_byte +
               static_cast<double>(runs) * measured.copied_run;
    }
    [[nodiscard]] double remapping(const state& from, const detail::changed_blocks& changed) const noexcept {
        return measured.waited +
               static_cast<double>(changed.blocks * from.block_pages) * measured.remapped_page +
               static_cast<double>(changed.runs) * measured.remapped_run;
    }

    /// Whether a full block is mapped anew sooner than its rows are copied one by one.
    [[nodiscard]] bool worth_remapping(const state& from) const noexcept {
        return static_cast<double>(from.block_pages) * measured.remapped_page <
               copying(from, from.block_rows, from.block_rows);
    }
    [[nodiscard]] sliding by_sliding(const state& from) const noexcept {
        const auto pages = [&](std::size_t rows) {
            return (rows * from.block_pages + from.block_rows - 1) / from.block_rows;
        };
        const std::size_t live = detail::count_live(from, 0, from.rows);
        const auto changed = detail::changed_by_remap(from);
        if (changed.blocks == 0 || pages(changed.rows_after) != pages(live))
            return {};
        // Each row behind the dense ones is copied at least, or is in a block that is full.
        const std::size_t behind = detail::count_live(from, live, from.rows);
        const double full_blocks = static_cast<double>(behind) / static_cast<double>(from.block_rows);
        const double by_pages =
            full_blocks * static_cast<double>(from.block_pages) * measured.remapped_page + measured.waited;
        return {remapping(from, changed), copying(from, behind, 1), by_pages};
    }

    [[nodiscard]] status choose(const state& from, const sliding& slides, defrag::plan& into) const {
        const std::size_t copied = into.rows_copied();
        const double copying_alone = copying(from, copied, into.rows.size());
        const double row_cost = copying_alone / static_cast<double>(copied);
        const double page_cost =
            static_cast<double>(from.block_pages) * measured.remapped_page + measured.remapped_run;
        double best = copying_alone;
        std::size_t chosen = 0;
        detail::block_swaps swaps;
        const bool may_swap = std::min(copying_alone, slides.cost) > beyond_planning * slides.least_swapping;
        if (may_swap && page_cost < row_cost * static_cast<double>(from.block_rows)) { // worth a full block
            swaps = detail::block_swaps{from, into.rows_after};
            for (const double block_cost :
                 {page_cost, 2 * page_cost}) { // of a dead block in the head, of others
                const std::size_t count = swaps.worth_more_than(block_cost / row_cost);
                if (count == 0 || count == chosen)
                    continue;
                const std::size_t spared = swaps.rows_spared(count);
                const double cost = remapping(from, swaps.changed(count)) +
                                    row_cost * static_cast<double>(copied - std::min(copied, spared));
                if (cost < best) {
                    best = cost;
                    chosen = count;
                }
            }
        }
        if (slides.cost < best)
            return remap{}.plan(from, into);
        if (chosen != 0)
            swap_blocks(from, swaps.moves(chosen), into);
        return {};
    }

    /// Planned anew on what the positions are after the blocks have changed places.
    static void swap_blocks(const state& from, std::vector<block_move> blocks, defrag::plan& into) {
        defrag::plan after = into;
        after.rows.clear();
        after.blocks = std::move(blocks);
        std::vector<position_type> positions(from.positions.begin(), from.positions.end());
        defrag::apply(after, std::span{positions});
        state swapped = from;
        swapped.positions = positions;
        if (!swap_with_last{}.plan(swapped, into))
            throw std::bad_alloc{};
        into.blocks = std::move(after.blocks);
    }
};

static_assert(defrag_policy<hybrid, state, plan>);

} // namespace vtensor::defrag
