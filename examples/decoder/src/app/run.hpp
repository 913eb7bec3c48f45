// SPDX-License-Identifier: Apache-2.0
//
// One run of the decoder from checked settings: loads, checks that the request fits, streams the text, shows
// the table. Everything that can be refused is refused before the first character is shown.
#pragma once

#include "app/options.hpp"

#include <ostream>

namespace decoder {

/// Writes text and table to `out`. `input_error` for what the user can mend, `vtensor::failure` for what the
/// machine refused.
void run(const settings& chosen, std::ostream& out);

} // namespace decoder
