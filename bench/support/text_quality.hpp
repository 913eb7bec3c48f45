// SPDX-License-Identifier: Apache-2.0
//
// What eviction costs on text: windows of held-out bytes, the beginning of each prefilled and evicted from
// once, the rest scored byte by byte behind what is left.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace vtensor::bench {

/// Bits per byte over all scored bytes: `full` with nothing evicted, then [method][budget].
struct text_result {
    double full = 0;
    std::vector<std::vector<double>> bits;
    std::size_t scored = 0; ///< bytes
};

struct text_options {
    std::filesystem::path model;
    std::filesystem::path text; ///< windows of `prompt` + `scored` bytes, one after the other
    std::size_t windows = 8;    ///< at most so many
    std::size_t prompt = 768;
    std::size_t scored = 256;
    std::size_t threads = 1;
};

/// `shares` is what a head keeps on average of its prompt's rows. Throws what the decoder throws, and
/// std::runtime_error.
[[nodiscard]] text_result measure_text(const text_options& options, std::span<const char* const> methods,
                                       std::span<const double> shares);

} // namespace vtensor::bench
