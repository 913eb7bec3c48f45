// SPDX-License-Identifier: Apache-2.0
//
// The two numbers of a cached row: the slot where it lies in its tensor, and the position of its token in the
// sequence. They are the same until rows are evicted.
#pragma once

#include <cstdint>
#include <limits>

namespace vtensor {

/// Where a row lies in its tensor, from 0. Defragmentation changes it.
using slot_type = std::uint32_t;

/// The place of a token in its sequence, from 0. It never changes: keys are stored after their rotation.
using position_type = std::uint32_t;

/// The position of a row that was evicted and whose slot has not been used again. No query sees it.
inline constexpr position_type no_position = std::numeric_limits<position_type>::max();

} // namespace vtensor
