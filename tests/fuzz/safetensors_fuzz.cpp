// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as a safetensors file: they are refused with one sentence, or every byte that the accepted header
// promises can be read.
#include "io/input_error.hpp"
#include "io/safetensors.hpp"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

void require(bool holds) {
    if (!holds)
        std::abort();
}

/// Reads all of a tensor; the address sanitizer watches.
void touch(const decoder::weight& tensor, const std::byte* first, const std::byte* last) {
    std::size_t elements = 1;
    for (const std::size_t size : tensor.shape)
        elements *= size;
    const std::size_t bytes = elements * decoder::size_of(tensor.type);
    require(tensor.data >= first && bytes <= static_cast<std::size_t>(last - tensor.data));
    std::vector<float> values(elements);
    if (tensor.type <= decoder::element_type::bf16)
        decoder::read_elements(tensor, 0, values);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::vector<std::byte> file(reinterpret_cast<const std::byte*>(data),
                                      reinterpret_cast<const std::byte*>(data) + size);
    try {
        for (const auto& [name, tensor] : decoder::parse_safetensors(file, "file"))
            touch(tensor, file.data(), file.data() + file.size());
    } catch (const decoder::input_error& refused) {
        const std::string sentence = refused.what();
        require(!sentence.empty() && sentence.find('\n') == std::string::npos);
    }
    return 0;
}
