// SPDX-License-Identifier: Apache-2.0
//
// Leaves every row where it is.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>

namespace vtensor::defrag {

/// Moves nothing and gives nothing back: dead rows stay until something else moves them.
struct none {
    [[nodiscard]] status plan(const state& from, defrag::plan& into) const noexcept {
        into.reset(from);
        return {};
    }
};

static_assert(defrag_policy<none, state, plan>);

} // namespace vtensor::defrag
