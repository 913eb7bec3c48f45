// SPDX-License-Identifier: Apache-2.0
//
// Reads what Hugging Face computed (tests/decoder/vectors). The files go through the decoder's own
// safetensors reader; their numbers do not.
#pragma once

#include "io/safetensors.hpp"

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace decoder_test {

inline std::filesystem::path vectors() { return VTENSOR_DECODER_VECTORS; }

template <class T>
std::vector<T> read_tensor(const decoder::safetensors_file& file, const std::string& name) {
    const decoder::weight* const tensor = file.find(name);
    if (tensor == nullptr)
        throw std::runtime_error{"the vectors lack " + name};
    std::size_t elements = 1;
    for (const std::size_t size : tensor->shape)
        elements *= size;
    std::vector<T> values(elements);
    std::memcpy(values.data(), tensor->data, elements * sizeof(T));
    return values;
}

/// One folder of tests/decoder/vectors: a prompt, its logits, and 32 greedy steps.
struct expected {
    std::vector<std::int32_t> prompt;
    std::vector<float> prompt_logits;
    std::vector<std::int32_t> greedy;
    std::vector<float> greedy_logits;
};

inline expected read_expected(const std::string& folder) {
    const decoder::safetensors_file file{vectors() / folder / "expected.safetensors"};
    return {read_tensor<std::int32_t>(file, "prompt_tokens"), read_tensor<float>(file, "prompt_logits"),
            read_tensor<std::int32_t>(file, "greedy_tokens"), read_tensor<float>(file, "greedy_logits")};
}

} // namespace decoder_test
