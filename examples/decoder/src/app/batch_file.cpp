// SPDX-License-Identifier: Apache-2.0
#include "app/batch_file.hpp"

#include "io/file.hpp"
#include "io/input_error.hpp"

#include <array>
#include <cstddef>
#include <iostream>
#include <sstream>

namespace decoder {

namespace {

constexpr std::size_t largest_file = 64U << 20;
constexpr const char* standard_input = "the standard input";

/// Nobody knows beforehand how much there is.
std::string read_standard_input() {
    std::string text;
    std::array<char, 1U << 16> piece{};
    do {
        std::cin.read(piece.data(), piece.size());
        text.append(piece.data(), static_cast<std::size_t>(std::cin.gcount()));
        if (text.size() > largest_file)
            refuse(std::string{standard_input} + " has more than " + std::to_string(largest_file) +
                   " bytes; at most so many are read");
    } while (std::cin);
    return text;
}

} // namespace

std::vector<std::string> read_batch(const std::string& file) {
    const bool is_piped = file == "-";
    std::istringstream text{is_piped ? read_standard_input() : read_text(file, largest_file)};
    std::vector<std::string> prompts;
    for (std::string line; std::getline(text, line);) {
        if (line.ends_with('\r'))
            line.pop_back();
        if (!line.empty())
            prompts.push_back(line);
    }
    if (prompts.empty())
        refuse((is_piped ? standard_input : printable(file, 300)) +
               " holds no prompt; give --batch one a line");
    return prompts;
}

} // namespace decoder
