// SPDX-License-Identifier: Apache-2.0
#include "text/unicode.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>

namespace decoder {

namespace {

struct code_range {
    char32_t first, last;
};

#include "unicode_tables.inc"

template <std::size_t Size>
bool contains(const code_range (&ranges)[Size], char32_t code_point) noexcept {
    const auto* const behind =
        std::upper_bound(std::begin(ranges), std::end(ranges), code_point,
                         [](char32_t value, const code_range& range) { return value < range.first; });
    return behind != std::begin(ranges) && code_point <= std::prev(behind)->last;
}

} // namespace

bool is_letter(char32_t code_point) noexcept { return contains(letters, code_point); }

bool is_number(char32_t code_point) noexcept { return contains(numbers, code_point); }

bool is_space(char32_t code_point) noexcept {
    return (code_point >= 0x09 && code_point <= 0x0D) || code_point == 0x20 || code_point == 0x85 ||
           code_point == 0xA0 || code_point == 0x1680 || (code_point >= 0x2000 && code_point <= 0x200A) ||
           code_point == 0x2028 || code_point == 0x2029 || code_point == 0x202F || code_point == 0x205F ||
           code_point == 0x3000;
}

} // namespace decoder
