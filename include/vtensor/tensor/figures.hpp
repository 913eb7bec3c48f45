// SPDX-License-Identifier: Apache-2.0
//
// What may be said of a tensor when it is made, and what it says of itself. Plain values.
#pragma once

#include <vtensor/core/units.hpp>
#include <vtensor/memory/pooled_chunk.hpp>

#include <cstddef>

namespace vtensor {

/// What may be said of a tensor when it is made.
struct tensor_options {
    owner_id owner{}; ///< whose data it will hold, for pools that scrub between owners
};

/// A tensor in figures. `used` ≤ `mapped` ≤ `reserved`.
struct tensor_stats {
    std::size_t rows = 0;
    std::size_t max_rows = 0;
    bytes row{};      ///< one row
    bytes used{};     ///< what the rows occupy
    bytes mapped{};   ///< physical memory behind the tensor
    bytes reserved{}; ///< addresses
    bytes page{};
};

} // namespace vtensor
