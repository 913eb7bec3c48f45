// SPDX-License-Identifier: Apache-2.0
//
// The eviction policy of a tensor whose caller says which rows stay: an engine, a cache of several tensors, a
// policy that looks further than one tensor.
#pragma once

#include <vtensor/core/concepts.hpp>

namespace vtensor::eviction {

/// Chooses nothing by itself; the tensor keeps the map from slots to positions that eviction takes.
struct by_caller {
    static constexpr eviction_scope scope = eviction_scope::tensor;
};

static_assert(eviction_policy<by_caller>);

} // namespace vtensor::eviction
