// SPDX-License-Identifier: Apache-2.0
//
// What the picture shows: a few conversations that come, share, change and go, in tensors on a pool of the
// host's memory, with every call to the backend recorded.
#pragma once

#include "told_story.hpp"

namespace memory_map {

/// Throws `vtensor::failure` where the machine refuses memory, `std::bad_alloc`.
[[nodiscard]] told_story tell_story();

} // namespace memory_map
