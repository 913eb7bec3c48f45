// SPDX-License-Identifier: Apache-2.0
//
// UTF-8, read forgivingly: bytes that form no character are values of their own and never stop the reader.
// The stream at the end shows generated text without ever cutting a character in two.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace decoder {

/// One character at the head of a text, or one byte that begins none.
struct utf8_head {
    char32_t code_point = 0;
    std::size_t length = 0;     ///< bytes; 0 only for an empty text
    bool is_valid = false;      ///< false: `length` bytes that are no character
    bool is_incomplete = false; ///< the text ends inside what may still become a character
};

/// Looks at the first character of `text` (RFC 3629: no surrogates, no overlong forms). What is invalid has
/// the length of the maximal subpart that Unicode replaces by one U+FFFD.
[[nodiscard]] utf8_head first_character(std::string_view text) noexcept;

/// Appends the UTF-8 form of a code point below 0x110000.
void append_utf8(std::string& text, char32_t code_point);

/// Bytes in, whole characters out. Invalid bytes come out as U+FFFD.
class utf8_stream {
  public:
    /// All characters that are complete after `bytes` have been added.
    [[nodiscard]] std::string push(std::string_view bytes);
    /// The end: what never became a character, as U+FFFD.
    [[nodiscard]] std::string finish();

  private:
    std::string pending_;
};

} // namespace decoder
