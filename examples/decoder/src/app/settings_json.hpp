// SPDX-License-Identifier: Apache-2.0
//
// The settings of a run as JSON: those that every report names.
#pragma once

#include "app/options.hpp"

#include <nlohmann/json.hpp>

namespace decoder {

[[nodiscard]] nlohmann::ordered_json to_json(const settings& chosen, vtensor::bytes page);

} // namespace decoder
