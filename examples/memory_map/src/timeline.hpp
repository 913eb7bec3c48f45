// SPDX-License-Identifier: Apache-2.0
//
// A recording as the JSON that the page shows: one step a call or mark, each saying only what changes.
// README.md describes the fields.
#pragma once

#include "recorder.hpp"

#include <nlohmann/json_fwd.hpp>

#include <span>
#include <string>

namespace memory_map {

/// Throws `replay_error` where the calls contradict each other, `std::bad_alloc`.
[[nodiscard]] nlohmann::ordered_json make_timeline(const std::string& title, std::span<const entry> entries);

} // namespace memory_map
