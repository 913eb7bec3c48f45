// SPDX-License-Identifier: Apache-2.0
//
// JSON from files nobody vouches for: parsed with a ceiling on nesting, without duplicate names, and every
// mistake becomes an `input_error` that names the file. Include <nlohmann/json.hpp> where values are used.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace decoder {

/// `text` as JSON. `what` names it in messages. Refuses syntax errors, invalid UTF-8, a name that occurs
/// twice in one object, and objects or arrays nested deeper than `deepest`.
[[nodiscard]] nlohmann::json parse_json(std::string_view text, const std::string& what, std::size_t deepest);

} // namespace decoder
