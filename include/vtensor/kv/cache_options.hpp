// SPDX-License-Identifier: Apache-2.0
//
// What may be said of a sequence's cache when it is made.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/packed_room.hpp>
#include <vtensor/memory/pooled_chunk.hpp>

#include <cstddef>

namespace vtensor::kv {

template <growth_policy Growth>
struct cache_options {
    owner_id owner{}; ///< whose data it will hold, for pools that scrub between owners
    Growth growth{};  ///< of every tensor
    /// At least so many tokens are mapped at once, where memory is not short: neighbouring pages of one
    /// tensor are then one mapping to the host's kernel, whose number is limited. 0: as the growth policy
    /// says.
    std::size_t tokens_a_growth = 64;
    packed_room room{}; ///< of packed heads
};

} // namespace vtensor::kv
