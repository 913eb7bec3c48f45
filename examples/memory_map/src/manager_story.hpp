// SPDX-License-Identifier: Apache-2.0
//
// What the picture shows: requests that a manager of sequences serves in less memory than they want, with
// every call to the backend recorded.
#pragma once

#include "told_story.hpp"

namespace memory_map {

/// Throws `vtensor::failure` where the machine refuses memory, `std::bad_alloc`, and `std::logic_error` where
/// the manager does not do what the story tells.
[[nodiscard]] told_story tell_manager_story();

} // namespace memory_map
