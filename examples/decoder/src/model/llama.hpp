// SPDX-License-Identifier: Apache-2.0
//
// The Llama architecture: RMSNorm, rotary positions, grouped-query attention, SwiGLU. Reads its weights from
// the mapped checkpoint in every step and keeps nothing but scratch; the sequence lives in the KV cache.
#pragma once

#include "io/checkpoint.hpp"
#include "io/model_config.hpp"
#include "io/weights.hpp"
#include "model/attention.hpp"
#include "model/kv_cache.hpp"
#include "model/rope.hpp"
#include "model/thread_pool.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace decoder {

class llama {
  public:
    /// Finds and checks all weights. The checkpoint must outlive the model.
    llama(const model_config& config, const checkpoint& weights);

    /// Feeds `tokens` behind the rows that the cache has. On success the cache has a row for each of them and
    /// `logits` ([n, vocabulary], n ≤ tokens) holds those of the last n. Tokens must be in the vocabulary. On
    /// failure the cache is as it was.
    [[nodiscard]] vtensor::status try_step(kv_cache& cache, std::span<const int> tokens,
                                           std::span<float> logits, thread_pool& threads);

    /// W_O of every layer, [hidden, heads × head dimension].
    [[nodiscard]] std::vector<weight> output_weights() const;

    [[nodiscard]] const model_config& config() const noexcept { return config_; }
    [[nodiscard]] kv_shape cache_shape() const noexcept {
        return {config_.layers, config_.kv_heads, config_.head_dim, config_.context};
    }

  private:
    struct layer {
        weight attention_norm, q, k, v, o, mlp_norm, gate, up, down;
    };
    /// Activations of the tokens of one step, row by row.
    struct scratch {
        std::vector<float> x, normed, q, k, v, mixed, gate, up, norm;
    };

    void make_room(std::size_t count);
    void embed(std::span<const int> tokens);
    void normalise(const weight& scale, std::size_t count);
    [[nodiscard]] vtensor::status attend(std::size_t index, kv_cache& cache, std::size_t first,
                                         std::size_t count, thread_pool& threads);
    void feed_forward(const layer& weights, std::size_t count, thread_pool& threads);
    void add_product(const weight& matrix, std::span<const float> input, std::size_t count,
                     thread_pool& threads);

    model_config config_;
    weight embedding_, norm_, head_;
    std::vector<layer> layers_;
    rotator rotator_;
    attention attention_;
    scratch scratch_;
};

} // namespace decoder
