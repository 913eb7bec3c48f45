// SPDX-License-Identifier: Apache-2.0
//
// What a story leaves behind, for whoever draws or checks it.
#pragma once

#include "recorder.hpp"

#include <vtensor/memory/chunk_pool_types.hpp>

#include <vector>

namespace memory_map {

/// The recording of a run, and what the library itself said at its end, before the tensors went.
struct told_story {
    std::vector<entry> entries;
    vtensor::chunk_pool_stats pool;
    vtensor::bytes reserved; ///< of all tensors
    vtensor::bytes mapped;
};

} // namespace memory_map
