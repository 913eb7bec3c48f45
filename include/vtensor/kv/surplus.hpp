// SPDX-License-Identifier: Apache-2.0
//
// Whether memory that a growth policy merely wishes for is taken along.
#pragma once

#include <cstdint>

namespace vtensor::kv {

/// What is mapped beyond what rows need.
enum class surplus : std::uint8_t {
    by_policy, ///< what the growth policy wishes for
    none,      ///< nothing more than was mapped before: where memory is short
};

} // namespace vtensor::kv
