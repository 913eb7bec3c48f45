// SPDX-License-Identifier: Apache-2.0
//
// For compilers without libFuzzer: runs the target once over every file of the directories on the command
// line, over every file cut short at many places, and with single bytes changed.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using bytes = std::vector<std::uint8_t>;

bytes read(const std::filesystem::path& path) {
    std::ifstream stream{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{stream}, {}};
}

/// The file, its beginnings, and itself with one byte changed: about 400 runs.
std::size_t replay(bytes content) {
    const std::size_t step = std::max<std::size_t>(1, content.size() / 200);
    LLVMFuzzerTestOneInput(content.data(), content.size());
    std::size_t runs = 1;
    for (std::size_t at = 0; at < content.size(); at += step) {
        LLVMFuzzerTestOneInput(content.data(), at);
        const std::uint8_t before = content[at];
        content[at] = static_cast<std::uint8_t>(before ^ (1U << (at % 8)));
        LLVMFuzzerTestOneInput(content.data(), content.size());
        content[at] = before;
        runs += 2;
    }
    return runs;
}

} // namespace

int main(int count, char** words) {
    std::size_t runs = 0;
    for (int i = 1; i < count; ++i)
        for (const auto& entry : std::filesystem::directory_iterator{words[i]})
            runs += replay(read(entry.path()));
    std::printf("%zu runs\n", runs);
    return runs > 0 ? 0 : 1;
}
