// SPDX-License-Identifier: Apache-2.0
//
// Rotary positions (RoFormer, arXiv 2104.09864) in the Hugging Face convention: element i of a head turns
// together with element i + head_dim / 2. Holds the frequencies; rotates queries and keys in place.
#pragma once

#include "io/model_config.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace decoder {

/// The angle, in radians, by which each pair of a head turns per position: head_dim / 2 values, scaled as the
/// configuration asks. In float32, because the models were trained with that rounding.
[[nodiscard]] std::vector<float> rope_frequencies(const model_config& config);

/// Rotates queries and keys to their positions.
class rotator {
  public:
    explicit rotator(const model_config& config) : frequencies_{rope_frequencies(config)} {}

    /// Prepares the angles of positions first … first + count − 1.
    void prepare(std::size_t first, std::size_t count);
    /// Rotates every head of `vectors` (heads × head_dim) in place to position first + `index`.
    void rotate(std::size_t index, std::span<float> vectors) const;

  private:
    std::vector<float> frequencies_;
    std::vector<float> cosines_; // [count, head_dim / 2]
    std::vector<float> sines_;
};

} // namespace decoder
