// SPDX-License-Identifier: Apache-2.0
#include "text/byte_alphabet.hpp"

#include "text/utf8.hpp"

#include <array>
#include <cstddef>

namespace decoder {

namespace {

constexpr std::size_t alphabet_end = 256 + 68; // 68 bytes are not printable and move behind Latin-1

struct alphabet {
    std::array<char32_t, 256> symbol{};
    std::array<int, alphabet_end> byte{};
};

/// '!' to '~', '¡' to '¬' and '®' to 'ÿ' stand for themselves, the other bytes for U+0100 and on, in order.
constexpr alphabet make_alphabet() {
    alphabet made{};
    for (int& byte : made.byte)
        byte = -1;
    char32_t next = 256;
    for (char32_t byte = 0; byte < 256; ++byte) {
        const bool is_itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
        const char32_t symbol = is_itself ? byte : next++;
        made.symbol[byte] = symbol;
        made.byte[symbol] = static_cast<int>(byte);
    }
    return made;
}

constexpr alphabet letters = make_alphabet();

} // namespace

std::optional<std::string> bytes_of(std::string_view symbols) {
    std::string bytes;
    while (!symbols.empty()) {
        const utf8_head head = first_character(symbols);
        if (!head.is_valid || head.code_point >= letters.byte.size() || letters.byte[head.code_point] < 0)
            return std::nullopt;
        bytes.push_back(static_cast<char>(letters.byte[head.code_point]));
        symbols.remove_prefix(head.length);
    }
    return bytes;
}

std::string symbols_of(std::string_view bytes) {
    std::string symbols;
    for (const char byte : bytes)
        append_utf8(symbols, letters.symbol[static_cast<unsigned char>(byte)]);
    return symbols;
}

} // namespace decoder
