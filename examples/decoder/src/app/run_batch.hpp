// SPDX-License-Identifier: Apache-2.0
//
// One run of the decoder with `--batch`: as run.hpp, for many prompts; the texts come in their order when all
// are done.
#pragma once

#include "app/options.hpp"

#include <ostream>

namespace decoder {

/// `chosen.batch` is given. Refuses and fails as `run`.
void run_batch(const settings& chosen, std::ostream& out);

} // namespace decoder
