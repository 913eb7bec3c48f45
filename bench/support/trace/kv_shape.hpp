// SPDX-License-Identifier: Apache-2.0
//
// How large the keys and values of a token are. Plain data.
#pragma once

#include <vtensor/core/units.hpp>

#include <cstddef>

namespace vtensor::bench {

struct kv_shape {
    std::size_t layers = 2;
    std::size_t heads = 2;   ///< KV heads of a layer
    std::size_t width = 64;  ///< elements of a head
    std::size_t element = 2; ///< bytes

    /// Tensors: K and V of every layer.
    [[nodiscard]] std::size_t tensors() const noexcept { return 2 * layers; }
    /// Of one token in one tensor.
    [[nodiscard]] bytes row() const noexcept { return bytes{heads * width * element}; }
    /// Of one token in all of them.
    [[nodiscard]] bytes token() const noexcept { return row() * tensors(); }
};

} // namespace vtensor::bench
