// SPDX-License-Identifier: Apache-2.0
//
// Preemption policies: what becomes of the rows of a sequence that must give its memory up. Values without
// state; they never touch memory.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <cstddef>

namespace vtensor::preemption {

/// Rows are forgotten, and computed again from the tokens.
struct recompute {
    [[nodiscard]] constexpr bool keeps_rows(const preemption_state&) const noexcept { return false; }
};

/// Rows are copied to the host's memory where the CPU reaches them, else forgotten.
struct swap_out {
    [[nodiscard]] constexpr bool keeps_rows(const preemption_state& state) const noexcept {
        return state.can_be_copied;
    }
};

/// Whichever is quicker: rows are copied out and in again, or those that are not recorded are computed. The
/// caller measures both.
struct by_cost {
    double copied_byte = 0;    ///< seconds, one way
    double computed_token = 0; ///< seconds

    [[nodiscard]] constexpr bool keeps_rows(const preemption_state& state) const noexcept {
        const double computing = static_cast<double>(state.tokens - state.recorded) * computed_token;
        return state.can_be_copied && 2 * static_cast<double>(state.rows.count()) * copied_byte < computing;
    }
};

static_assert(preemption_policy<recompute>);
static_assert(preemption_policy<swap_out>);
static_assert(preemption_policy<by_cost>);

} // namespace vtensor::preemption
