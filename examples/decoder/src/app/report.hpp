// SPDX-License-Identifier: Apache-2.0
//
// What a run cost: speed, addresses, memory by the library's count and by the kernel's or the driver's, and
// what two other kinds of cache would hold for the same tokens. As a table for a person and as JSON for a
// program.
#pragma once

#include "app/generate.hpp"
#include "app/options.hpp"
#include "model/kv_cache.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace decoder {

struct run_report {
    settings chosen;
    generation result;
    kv_figures cache;
    memory_facts memory;
    std::size_t prompt_tokens = 0;
    std::size_t context = 0;
    std::size_t weight_bytes = 0;
};

/// What a cache allocated for `context` tokens holds, whatever is in it.
[[nodiscard]] vtensor::bytes contiguous_bytes(const run_report& report) noexcept;
/// What a cache of 16-token blocks holds for the tokens there are.
[[nodiscard]] vtensor::bytes paged_bytes(const run_report& report) noexcept;

/// A table of three columns, with a line break at its end.
[[nodiscard]] std::string to_table(const run_report& report);
/// The same figures, the settings, and the generated text and tokens.
[[nodiscard]] std::string to_json(const run_report& report, std::string_view text);

} // namespace decoder
