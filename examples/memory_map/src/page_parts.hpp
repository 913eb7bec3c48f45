// SPDX-License-Identifier: Apache-2.0
//
// The files of page/, compiled in.
#pragma once

#include <string_view>

namespace memory_map::parts {

extern const std::string_view page;    ///< HTML with places for the others
extern const std::string_view style;   ///< CSS
extern const std::string_view model;   ///< JavaScript without a document: what steps lead to, and their words
extern const std::string_view picture; ///< JavaScript that draws the map
extern const std::string_view view;    ///< JavaScript that goes from step to step

} // namespace memory_map::parts
