// SPDX-License-Identifier: Apache-2.0
#include "app/batch_file.hpp"

#include "io/file.hpp"
#include "io/input_error.hpp"

#include <cstddef>
#include <sstream>

namespace decoder {

namespace {

constexpr std::size_t largest_file = 64U << 20;

} // namespace

std::vector<std::string> read_batch(const std::filesystem::path& file) {
    std::istringstream text{read_text(file, largest_file)};
    std::vector<std::string> prompts;
    for (std::string line; std::getline(text, line);) {
        if (line.ends_with('\r'))
            line.pop_back();
        if (!line.empty())
            prompts.push_back(line);
    }
    if (prompts.empty())
        refuse(printable(file.string(), 300) + " holds no prompt; give --batch a file with one a line");
    return prompts;
}

} // namespace decoder
