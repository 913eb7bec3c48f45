// SPDX-License-Identifier: Apache-2.0
//
// What is asked for, against what the model and the memory can do. Everything refuses with `input_error`.
#pragma once

#include "app/options.hpp"
#include "io/model_config.hpp"
#include "model/kv_cache.hpp"
#include "text/tokenizer.hpp"

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace decoder {

/// At least one token, all of them in the vocabulary, and room in the context for another one.
[[nodiscard]] std::vector<int> encode_prompt(const tokenizer& words, const std::string& prompt,
                                             const model_config& config);

/// `most`, or as many as are usual, behind a prompt of that many tokens.
[[nodiscard]] std::size_t tokens_to_generate(const std::optional<std::size_t>& most, std::size_t prompt,
                                             const model_config& config);

/// The page the user asked for, or one that holds 64 tokens of a layer; of a head where each has its own.
[[nodiscard]] vtensor::bytes choose_page(const settings& chosen, const kv_shape& shape,
                                         vtensor::bytes granularity);

/// That one sequence of so many rows fits into the limit.
void check_limit(const kv_options& cache, const kv_shape& shape, std::size_t rows);

} // namespace decoder
