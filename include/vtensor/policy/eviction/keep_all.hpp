// SPDX-License-Identifier: Apache-2.0
//
// The eviction policy of a tensor that never evicts: every row stays until the tensor is resized.
#pragma once

#include <vtensor/core/concepts.hpp>

namespace vtensor::eviction {

/// Keeps every row. The default of `virtual_tensor`.
struct keep_all {
    static constexpr eviction_scope scope = eviction_scope::tensor;
};

static_assert(eviction_policy<keep_all>);

} // namespace vtensor::eviction
