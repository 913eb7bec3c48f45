// SPDX-License-Identifier: Apache-2.0
//
// A timeline as one HTML file that needs nothing else: no network, no other file.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace memory_map {

/// `timeline` comes from `make_timeline`. Whatever its names hold stays text.
[[nodiscard]] std::string make_html(const nlohmann::ordered_json& timeline);

} // namespace memory_map
