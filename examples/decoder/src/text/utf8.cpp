// SPDX-License-Identifier: Apache-2.0
#include "text/utf8.hpp"

#include <cstdint>
#include <utility>

namespace decoder {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";

/// What the first byte announces: the length, and the range that the second byte must be in (table 3-7 of the
/// Unicode standard).
struct announcement {
    std::size_t length;
    std::uint8_t low, high;
    char32_t bits;
};

announcement announced_by(std::uint8_t first) noexcept {
    if (first < 0x80)
        return {1, 0, 0, first};
    if (first >= 0xC2 && first <= 0xDF)
        return {2, 0x80, 0xBF, first & 0x1FU};
    if (first >= 0xE0 && first <= 0xEF)
        return {3, static_cast<std::uint8_t>(first == 0xE0 ? 0xA0 : 0x80),
                static_cast<std::uint8_t>(first == 0xED ? 0x9F : 0xBF), first & 0x0FU};
    if (first >= 0xF0 && first <= 0xF4)
        return {4, static_cast<std::uint8_t>(first == 0xF0 ? 0x90 : 0x80),
                static_cast<std::uint8_t>(first == 0xF4 ? 0x8F : 0xBF), first & 0x07U};
    return {0, 0, 0, 0};
}

} // namespace

utf8_head first_character(std::string_view text) noexcept {
    if (text.empty())
        return {};
    const auto start = announced_by(static_cast<std::uint8_t>(text.front()));
    if (start.length == 0)
        return {0, 1, false, false};
    char32_t code_point = start.bits;
    for (std::size_t i = 1; i < start.length; ++i) {
        if (i == text.size())
            return {0, i, false, true};
        const auto byte = static_cast<std::uint8_t>(text[i]);
        const std::uint8_t low = i == 1 ? start.low : 0x80;
        const std::uint8_t high = i == 1 ? start.high : 0xBF;
        if (byte < low || byte > high)
            return {0, i, false, false};
        code_point = (code_point << 6) | (byte & 0x3FU);
    }
    return {code_point, start.length, true, false};
}

void append_utf8(std::string& text, char32_t code_point) {
    const auto tail = [&](unsigned shift) {
        text.push_back(static_cast<char>(0x80U | ((code_point >> shift) & 0x3FU)));
    };
    if (code_point < 0x80) {
        text.push_back(static_cast<char>(code_point));
    } else if (code_point < 0x800) {
        text.push_back(static_cast<char>(0xC0U | (code_point >> 6)));
        tail(0);
    } else if (code_point < 0x10000) {
        text.push_back(static_cast<char>(0xE0U | (code_point >> 12)));
        tail(6);
        tail(0);
    } else {
        text.push_back(static_cast<char>(0xF0U | (code_point >> 18)));
        tail(12);
        tail(6);
        tail(0);
    }
}

std::string utf8_stream::push(std::string_view bytes) {
    pending_.append(bytes);
    std::string shown;
    std::string_view rest = pending_;
    while (!rest.empty()) {
        const utf8_head head = first_character(rest);
        if (head.is_incomplete)
            break;
        shown.append(head.is_valid ? rest.substr(0, head.length) : replacement);
        rest.remove_prefix(head.length);
    }
    pending_ = std::string{rest};
    return shown;
}

std::string utf8_stream::finish() {
    return std::exchange(pending_, {}).empty() ? std::string{} : std::string{replacement};
}

} // namespace decoder
