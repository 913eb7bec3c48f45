// SPDX-License-Identifier: Apache-2.0
#include "io/input_error.hpp"

namespace decoder {

std::string printable(std::string_view text, std::size_t longest) {
    std::string shown;
    for (const char c : text.substr(0, longest)) {
        const auto byte = static_cast<unsigned char>(c);
        shown.push_back(byte < 0x20 || byte == 0x7F ? '?' : c);
    }
    return text.size() > longest ? shown + "..." : shown;
}

} // namespace decoder
