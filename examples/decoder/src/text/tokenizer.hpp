// SPDX-License-Identifier: Apache-2.0
//
// Text to tokens and back. Two kinds: raw bytes (a model without tokenizer.json and with 256 tokens, each of
// them a byte) and the byte-level BPE of a Hugging Face tokenizer.json.
#pragma once

#include "io/model_config.hpp"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace decoder {

class tokenizer {
  public:
    virtual ~tokenizer() = default;

    /// The tokens of a prompt, with those that the tokenizer puts in front of and behind every text.
    [[nodiscard]] virtual std::vector<int> encode(std::string_view text) const = 0;

    /// The bytes that a token shows; nothing for special tokens and for numbers that are no token. They may
    /// end inside a UTF-8 character: show them through a `utf8_stream`.
    [[nodiscard]] virtual std::string_view bytes_of_token(int token) const = 0;
};

/// A token is a byte; `in_front`, where given, comes before every prompt.
[[nodiscard]] std::unique_ptr<tokenizer> make_byte_tokenizer(std::optional<int> in_front = std::nullopt);

/// From the text of a tokenizer.json; `what` names it in messages. Refuses every kind but byte-level BPE, and
/// every option of it that is not implemented, by name.
[[nodiscard]] std::unique_ptr<tokenizer> parse_tokenizer(std::string_view text, const std::string& what);

/// The tokenizer of a model directory: tokenizer.json, or raw bytes where there is none and the model has 256
/// tokens; then `add_bos_token` of tokenizer_config.json says whether a prompt begins with the BOS token.
[[nodiscard]] std::unique_ptr<tokenizer> load_tokenizer(const std::filesystem::path& directory,
                                                        const model_config& config);

} // namespace decoder
