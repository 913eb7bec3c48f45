// SPDX-License-Identifier: Apache-2.0
//
// A Llama over ragged caches: the decoder's weights, products and rotation, the library's attention. Beside
// logits it gives what eviction policies want to be shown of a prompt.
#pragma once

#include "ragged_cache.hpp"

#include "io/checkpoint.hpp"
#include "io/model_config.hpp"
#include "model/rope.hpp"
#include "model/thread_pool.hpp"

#include <vtensor/policy/eviction/evidence.hpp>

#include <cstddef>
#include <span>
#include <vector>

namespace vtensor::bench {

/// Evidence of all layers of one prompt. Belongs to the cache that it was made from, which stays as it is.
class prompt_evidence {
  public:
    /// Makes room for `layers` layers of so many heads and rows, and the last `window` queries.
    void reset(std::size_t layers, std::size_t query_heads, std::size_t kv_heads, std::size_t rows,
               std::size_t window);
    /// Takes what attention has shown of a layer: probabilities [query head, query, row] of all queries.
    void show(std::size_t layer, const ragged_cache& cache, std::span<const float> probabilities,
              tensor_view<const float, 3> output_projection);

    [[nodiscard]] std::span<const eviction::layer_evidence> layers() const noexcept { return shown_; }

  private:
    struct arrays {
        std::vector<eviction::head_rows> heads;
        std::vector<float> window, accumulated, key_norms, key_similarity, output_norms;
    };
    std::size_t query_heads_ = 0;
    std::size_t kv_heads_ = 0;
    std::size_t rows_ = 0;
    std::size_t window_ = 0;
    std::vector<arrays> arrays_;
    std::vector<eviction::layer_evidence> shown_;
};

/// One thread; an object a thread.
class ragged_llama {
  public:
    /// Queries at the end of a prompt whose probabilities policies are shown.
    static constexpr std::size_t window = 32;

    /// Finds and checks all weights and reads them into memory.
    ragged_llama(const decoder::model_config& config, const decoder::checkpoint& weights);

    [[nodiscard]] const decoder::model_config& config() const noexcept { return config_; }
    [[nodiscard]] ragged_cache empty_cache() const {
        return {config_.layers, config_.kv_heads, config_.head_dim};
    }

    /// Feeds `tokens` at positions first, first + 1, … behind the rows of the cache and returns the logits of
    /// all of them, [token, vocabulary], valid until the next call. `evidence`, where not null, is of these
    /// tokens alone: the cache must have been empty.
    std::span<const float> step(ragged_cache& cache, std::span<const int> tokens, position_type first,
                                prompt_evidence* evidence = nullptr);

  private:
    struct matrix {
        std::vector<float> elements;
        decoder::weight view;
    };
    struct layer {
        matrix attention_norm, q, k, v, o, mlp_norm, gate, up, down;
    };

    [[nodiscard]] static matrix read(const decoder::weight& from);
    void normalise(const matrix& scale, std::size_t count);
    void multiply(const matrix& by, const std::vector<float>& input, std::size_t count,
                  std::vector<float>& output);
    void add_product(const matrix& by, const std::vector<float>& input, std::size_t count);
    void attend(std::size_t index, ragged_cache& cache, std::size_t count, position_type first,
                prompt_evidence* evidence);
    void feed_forward(const layer& weights, std::size_t count);

    decoder::model_config config_;
    matrix embedding_, norm_, head_;
    std::vector<layer> layers_;
    decoder::rotator rotator_;
    decoder::thread_pool alone_{1};
    std::vector<float> x_, normed_, q_, k_, v_, mixed_, gate_, up_, added_, logits_, probabilities_;
};

} // namespace vtensor::bench
