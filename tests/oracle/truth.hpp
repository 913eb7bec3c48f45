// SPDX-License-Identifier: Apache-2.0
//
// The evidence as the textbook defines it, by loops in double precision, and nothing of the library.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace oracle {

/// The sizes of one layer.
struct sizes {
    std::size_t query_heads, kv_heads, tokens, width, hidden;
    [[nodiscard]] std::size_t group() const { return query_heads / kv_heads; }
};

/// The tensors of one layer: q [Hq, T, d], k and v [Hkv, T, d], wo [Hq, d, hidden].
struct layer_inputs {
    std::span<const float> q, k, v, wo;
};

/// What plain causal attention over a layer shows.
struct layer_truth {
    std::vector<float> probabilities; ///< [Hq, W, T], of the last W queries
    std::vector<float> accumulated;   ///< [Hq, T], summed over all queries
    std::vector<float> key_norms;     ///< [Hkv, T]
    std::vector<float> similarity;    ///< [Hkv, T]
    std::vector<float> output_norms;  ///< [Hkv, T]
    std::vector<double> outputs;      ///< [Hq, T, d]
};

[[nodiscard]] layer_truth observe_layer(const layer_inputs& inputs, const sizes& size, std::size_t window);

/// The softmax of one query over `keys` rows of `width`, scaled by 1/√width.
[[nodiscard]] std::vector<double> softmax(const float* query, const std::vector<const float*>& keys,
                                          std::size_t width);

} // namespace oracle
