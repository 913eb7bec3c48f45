// SPDX-License-Identifier: Apache-2.0
//
// What a batch cost: speed, and what the manager did with the memory, in its busiest step and at the end. As
// a table for a person and as JSON for a program.
#pragma once

#include "app/generate_batch.hpp"
#include "app/kv_memory.hpp"
#include "app/options.hpp"

#include <string>
#include <vector>

namespace decoder {

struct batch_report {
    settings chosen;
    batch_outcome result;
    memory_facts memory;
    std::vector<std::string> texts; ///< one a completion
};

/// A table of three columns, with a line break at its end.
[[nodiscard]] std::string to_table(const batch_report& report);
/// The same figures, the settings, and every text with its tokens.
[[nodiscard]] std::string to_json(const batch_report& report);

} // namespace decoder
