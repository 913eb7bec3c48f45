// SPDX-License-Identifier: Apache-2.0
//
// Live rows slide down over dead ones.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/policy/defrag/live_runs.hpp>

namespace vtensor::defrag {

/// The rows end dense and in the order in which they were. Copies every live row behind the first dead one.
/// O(rows).
struct compact {
    [[nodiscard]] status plan(const state& from, defrag::plan& into) const noexcept {
        return detail::planned(from, into, [&](defrag::plan& moves) {
            std::size_t end = 0;
            detail::slot_runs live{from, true, 0, from.rows};
            for (auto run = live.next(); run.size() != 0; run = live.next()) {
                if (run.first != end)
                    moves.rows.push_back(detail::move_of(run.first, end, run.size()));
                end += run.size();
            }
            moves.rows_after = end;
        });
    }
};

static_assert(defrag_policy<compact, state, plan>);

} // namespace vtensor::defrag
