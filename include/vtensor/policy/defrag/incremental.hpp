// SPDX-License-Identifier: Apache-2.0
//
// A bounded piece of work at each call, for a step that must not wait for a whole defragmentation.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/policy/defrag/live_runs.hpp>

#include <algorithm>

namespace vtensor::defrag {

/// Copies at most `Bytes` bytes a call (of all tensors that share the plan together): the last live rows go
/// to the first dead slots, and the pages behind them leave, so that each call gives its memory back. The
/// order is not kept. It remembers nothing: what is left to do is seen in the positions, so it may be called
/// again at any time, also after rows were appended or evicted. Planning is O(rows). `invalid_argument` where
/// a row is longer than `Bytes` and one would have to move.
template <std::size_t Bytes>
struct incremental {
    static_assert(Bytes > 0, "no work at all is defrag::none");

    [[nodiscard]] status plan(const state& from, defrag::plan& into) const noexcept {
        std::size_t left = from.row == bytes{0} ? 0 : Bytes / from.row.count();
        bool stuck = false;
        const status outcome = detail::planned(from, into, [&](defrag::plan& moves) {
            auto run = detail::last_live_run(from, 0, from.rows);
            detail::slot_runs holes{from, false, 0, run.first};
            auto hole = holes.next();
            stuck = hole.size() != 0 && left == 0;
            while (hole.size() != 0 && run.size() != 0 && left != 0) {
                const std::size_t count = std::min({hole.size(), run.size(), left});
                run.end -= count;
                moves.rows.push_back(detail::move_of(run.end, hole.first, count));
                hole.first += count;
                left -= count;
                if (run.size() == 0)
                    run = detail::last_live_run(from, hole.first, run.first);
                if (hole.size() == 0)
                    hole = holes.next();
                if (hole.first >= run.first) // what is beyond has moved
                    break;
            }
            moves.rows_after = run.end;
        });
        if (outcome && stuck)
            return error{errc::invalid_argument, verb::defragment, 0, from.row};
        return outcome;
    }
};

static_assert(defrag_policy<incremental<4096>, state, plan>);

} // namespace vtensor::defrag
