// SPDX-License-Identifier: Apache-2.0
//
// How a text is cut before byte-pair merging: the regular expressions of GPT-2 and of Llama 3, written as
// plain matchers, and the digit splitter. Any other expression is not guessed at; the loader refuses it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace decoder {

/// One way of cutting.
enum class split_rule : std::uint8_t {
    gpt2,         ///< the expression inside ByteLevel
    llama3,       ///< the expression of Llama 3: case-blind contractions, numbers of at most three digits
    single_digit, ///< every number character for itself
    digit_run,    ///< runs of number characters
};

/// The rule that a `Split` pre-tokenizer's regular expression stands for, if it is a known one.
[[nodiscard]] std::optional<split_rule> rule_for(std::string_view regular_expression) noexcept;

/// Cuts `text` into pieces that join to it again. Bytes that are no UTF-8 count as symbols.
[[nodiscard]] std::vector<std::string_view> split(std::string_view text, split_rule rule);

/// A step of a pre-tokenizer: an optional space in front, then an optional rule.
struct split_step {
    bool adds_space = false; ///< where the piece does not begin with one
    std::optional<split_rule> rule;
};

/// All steps, one after the other, each over every piece of the step before.
[[nodiscard]] std::vector<std::string> pre_tokenize(std::string_view text,
                                                    const std::vector<split_step>& steps);

} // namespace decoder
