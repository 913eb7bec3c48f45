// SPDX-License-Identifier: Apache-2.0
//
// What the picture shows: a few conversations that come, share, change and go, in tensors on a pool of the
// host's memory, with every call to the backend recorded.
#pragma once

#include "recorder.hpp"

#include <vtensor/memory/chunk_pool_types.hpp>

#include <vector>

namespace memory_map {

/// The recording, and what the library itself said at its end, before the tensors went.
struct told_story {
    std::vector<entry> entries;
    vtensor::chunk_pool_stats pool;
    vtensor::bytes reserved; ///< of all tensors
    vtensor::bytes mapped;
};

/// Throws `vtensor::failure` where the machine refuses memory, `std::bad_alloc`.
[[nodiscard]] told_story tell_story();

} // namespace memory_map
