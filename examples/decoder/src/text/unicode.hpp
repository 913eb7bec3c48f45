// SPDX-License-Identifier: Apache-2.0
//
// The three character classes that tokenizers split by: \p{L}, \p{N} and \s.
#pragma once

namespace decoder {

[[nodiscard]] bool is_letter(char32_t code_point) noexcept;
[[nodiscard]] bool is_number(char32_t code_point) noexcept;
/// The property White_Space.
[[nodiscard]] bool is_space(char32_t code_point) noexcept;

} // namespace decoder
