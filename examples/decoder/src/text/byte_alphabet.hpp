// SPDX-License-Identifier: Apache-2.0
//
// The alphabet of byte-level BPE: GPT-2 writes every byte as one printable character, so that a vocabulary is
// readable text. Converts between the two spellings.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace decoder {

/// The bytes that a token of a byte-level vocabulary stands for; nothing where it holds a character outside
/// the alphabet.
[[nodiscard]] std::optional<std::string> bytes_of(std::string_view symbols);

/// The spelling of `bytes` in a byte-level vocabulary.
[[nodiscard]] std::string symbols_of(std::string_view bytes);

} // namespace decoder
