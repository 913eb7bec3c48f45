// SPDX-License-Identifier: Apache-2.0
//
// Reclaim policies: in which order a manager gives memory back when a sequence needs some. Values without
// state; they never touch memory.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <optional>

namespace vtensor::reclaim {

/// One source after another, each until it has nothing left. A source that is not named is never used:
/// without `sequences` nothing is preempted.
template <reclaim_source... Order>
struct in_order {
    [[nodiscard]] constexpr std::optional<reclaim_source> next(const reclaim_state& state) const noexcept {
        std::optional<reclaim_source> found;
        static_cast<void>(((state.has(Order) ? (found = Order, true) : false) || ...));
        return found;
    }
};

/// Least missed first: pages that hold nothing, what might be matched, what will be needed soon, what runs.
using cheapest_first =
    in_order<reclaim_source::lazily_held, reclaim_source::surplus, reclaim_source::prefixes,
             reclaim_source::look_ahead, reclaim_source::sequences>;
/// The same, and running sequences stay.
using never_preempt = in_order<reclaim_source::lazily_held, reclaim_source::surplus, reclaim_source::prefixes,
                               reclaim_source::look_ahead>;

static_assert(reclaim_policy<cheapest_first>);
static_assert(reclaim_policy<never_preempt>);

} // namespace vtensor::reclaim
