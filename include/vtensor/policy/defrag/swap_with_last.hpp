// SPDX-License-Identifier: Apache-2.0
//
// Dead slots are filled with live rows from behind, as few as make the rows dense.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/policy/defrag/live_runs.hpp>

#include <algorithm>

namespace vtensor::defrag {

/// The rows end dense, not in their order. With n live rows it copies those that lie at slot n or behind it,
/// which is the least that any copying can do. O(rows).
struct swap_with_last {
    [[nodiscard]] status plan(const state& from, defrag::plan& into) const noexcept {
        return detail::planned(from, into, [&](defrag::plan& moves) {
            const std::size_t live = detail::count_live(from, 0, from.rows);
            detail::slot_runs holes{from, false, 0, live};
            detail::slot_runs runs{from, true, live, from.rows};
            auto hole = holes.next();
            auto run = runs.next();
            while (hole.size() != 0 && run.size() != 0) {
                const std::size_t count = std::min(hole.size(), run.size());
                moves.rows.push_back(detail::move_of(run.first, hole.first, count));
                hole.first += count;
                run.first += count;
                if (hole.size() == 0)
                    hole = holes.next();
                if (run.size() == 0)
                    run = runs.next();
            }
            moves.rows_after = live;
        });
    }
};

static_assert(defrag_policy<swap_with_last, state, plan>);

} // namespace vtensor::defrag
