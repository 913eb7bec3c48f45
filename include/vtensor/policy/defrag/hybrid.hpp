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
        if (const status outcome = swap_with_last{}.plan(from, into);
            !outcome || !measured.known() || into.rows.empty() || from.block_rows == 0)
            return outcome;
        try {
            choose(from, into);
        } catch (const std::bad_alloc&) { // the plan that copies stands
        }
        return {};
    }

  private:
    [[nodiscard]] double copying(const state& from, std::size_t rows, std::size_t runs) const noexcept {
        return static_cast<double>(rows) * static_cast<double>(from.row.count()) * measured.copied_byte +
               static_cast<double>(runs) * measured.copied_run;
    }
    [[nodiscard]] double remapping(const state& from, const detail::changed_blocks& changed) const noexcept {
        return measured.waited +
               static_cast<double>(changed.blocks * from.block_pages) * measured.remapped_page +
               static_cast<double>(changed.runs) * measured.remapped_run;
    }

    void choose(const state& from, defrag::plan& into) const {
        const std::size_t copied = into.rows_copied();
        const double copying_alone = copying(from, copied, into.rows.size());
        const double row_cost = copying_alone / static_cast<double>(copied);
        const double page_cost =
            static_cast<double>(from.block_pages) * measured.remapped_page + measured.remapped_run;
        if (page_cost >= row_cost * static_cast<double>(from.block_rows))
            return; // not even a full block is worth it
        double best = copying_alone;
        detail::block_swaps swaps{from, into.rows_after};
        std::size_t chosen = 0;
        for (const double block_cost : {page_cost, 2 * page_cost}) { // of a dead block in the head, of others
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

        if (const auto slides = detail::changed_by_remap(from); slides.blocks != 0) {
            const auto pages = [&](std::size_t rows) {
                return (rows * from.block_pages + from.block_rows - 1) / from.block_rows;
            };
            if (pages(slides.rows_after) == pages(into.rows_after) && remapping(from, slides) < best) {
                static_cast<void>(remap{}.plan(from, into));
                return;
            }
        }
        if (chosen != 0)
            swap_blocks(from, swaps.moves(chosen), into);
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
