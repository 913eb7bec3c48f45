// SPDX-License-Identifier: Apache-2.0
//
// What an eviction follows: the prefill of one layer of the shape of Llama-3.1-8B (32 query and 8 KV heads of
// 128, hidden 4,096, feed-forward 14,336), its cache in float16, and the evidence that attention gives. One
// thread everywhere.
#pragma once

#include "attention_cache.hpp"
#include "bench_report.hpp"

#include <vtensor/attention/evidence.hpp>
#include <vtensor/attention/host.hpp>
#include <vtensor/policy/eviction/evidence.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::bench {

struct layer_shape {
    static constexpr std::size_t query_heads = 32;
    static constexpr std::size_t kv_heads = 8;
    static constexpr std::size_t width = 128;
    static constexpr std::size_t hidden = 4096;
    static constexpr std::size_t feed_forward = 14336;
    static constexpr std::size_t window = 32; ///< queries whose probabilities are written
};

/// The linear products of one layer on a block of tokens, by Eigen in float32.
class layer_products {
  public:
    static constexpr std::size_t tokens = 512;

    layer_products()
        : input_{matrix::Random(tokens, wide)},
          output_{tokens, wide},
          weights_{matrix::Random(wide, layer_shape::hidden)} {}

    void operator()() {
        constexpr Eigen::Index hidden = layer_shape::hidden;
        constexpr Eigen::Index kv = layer_shape::kv_heads * layer_shape::width;
        for (const Eigen::Index columns : {hidden, kv, kv, hidden, wide, wide}) // q, k, v, o, gate, up
            output_.leftCols(columns).noalias() =
                input_.leftCols(hidden) * weights_.topRows(columns).transpose();
        output_.leftCols(hidden).noalias() = input_ * weights_; // down
        keep(output_(0, 0));
    }

    [[nodiscard]] static constexpr double operations() {
        constexpr std::size_t attention = 2 * layer_shape::query_heads * layer_shape::width +
                                          2 * layer_shape::kv_heads * layer_shape::width;
        return 2.0 * tokens * layer_shape::hidden * (attention + 3 * layer_shape::feed_forward);
    }

  private:
    using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    static constexpr Eigen::Index wide = layer_shape::feed_forward;

    matrix input_;
    matrix output_;
    matrix weights_; ///< in the place of all of them: many times what the caches hold
};

/// Attention over one prompt, and the evidence from it.
class eviction_layer {
  public:
    using element = float16;

    explicit eviction_layer(std::size_t tokens)
        : tokens_{tokens},
          memory_{2 * layer_shape::kv_heads * tokens * layer_shape::width * sizeof(element),
                  plain_pages::huge},
          cache_{cut<element>(memory_, layer_shape::kv_heads, tokens, layer_shape::width)},
          queries_(tokens * layer_shape::query_heads * layer_shape::width),
          output_(queries_.size()),
          projection_(layer_shape::query_heads * layer_shape::width * layer_shape::hidden),
          probabilities_{probability_bytes(), plain_pages::huge},
          sums_(layer_shape::query_heads * tokens),
          key_norms_(layer_shape::kv_heads * tokens),
          similarity_(key_norms_.size()),
          output_norms_(key_norms_.size()) {
        cache_.fill();
        heads_ = cache_.heads();
        fill_random(std::span{queries_}, 7);
        fill_random(std::span{projection_}, 8);
        rows_.assign(layer_shape::kv_heads, {.rows = tokens});
    }
    eviction_layer(const eviction_layer&) = delete;
    eviction_layer& operator=(const eviction_layer&) = delete;

    [[nodiscard]] std::size_t tokens() const noexcept { return tokens_; }
    [[nodiscard]] const kv_cache<element>& cache() const noexcept { return cache_; }
    [[nodiscard]] const void* probabilities() const noexcept { return probabilities_.data(); }
    [[nodiscard]] std::size_t probability_bytes() const noexcept {
        return layer_shape::query_heads * layer_shape::window * tokens_ * sizeof(float);
    }

    /// Causal attention of all tokens.
    void attend() { attend(0, tokens_, false); }
    /// Attention of the last 32 queries, with or without their probabilities.
    void attend_window(bool scored) { attend(tokens_ - layer_shape::window, layer_shape::window, scored); }
    /// Attention of all tokens whose probabilities are all summed.
    void attend_and_sum() {
        std::ranges::fill(sums_, 0.0f);
        for (std::size_t first = 0; first < tokens_; first += layer_shape::window) {
            attend(first, layer_shape::window, true);
            throw_if_failed(attention::accumulate(scores(first + layer_shape::window),
                                                  make_view(sums_.data(), layer_shape::query_heads, tokens_),
                                                  run_));
        }
    }
    void find_key_norms() {
        throw_if_failed(attention::key_norms<element>(heads_, layer_shape::width, by_row(key_norms_), run_));
    }
    void find_key_similarity() {
        throw_if_failed(
            attention::key_similarity<element>(heads_, layer_shape::width, by_row(similarity_), run_));
    }
    /// W_O as checkpoints have it: bfloat16, [hidden, query heads × width].
    void find_output_norms() {
        tensor_view<const bfloat16, 3> weights =
            make_view(std::as_const(projection_).data(), layer_shape::query_heads, layer_shape::width,
                      layer_shape::hidden);
        weights.strides[0] = layer_shape::width;
        weights.strides[1] = 1;
        weights.strides[2] = layer_shape::query_heads * layer_shape::width;
        throw_if_failed(attention::output_norms<element>(heads_, weights, by_row(output_norms_), run_));
    }
    [[nodiscard]] double output_norm_operations() const {
        return 2.0 * static_cast<double>(tokens_) * static_cast<double>(projection_.size());
    }

    /// Everything that was found so far, as a policy takes it.
    [[nodiscard]] eviction::layer_evidence evidence() const {
        return {.heads = rows_,
                .probabilities = scores(tokens_),
                .accumulated = make_view(sums_.data(), layer_shape::query_heads, tokens_),
                .key_norms = make_view(key_norms_.data(), layer_shape::kv_heads, tokens_),
                .key_similarity = make_view(similarity_.data(), layer_shape::kv_heads, tokens_),
                .output_norms = make_view(output_norms_.data(), layer_shape::kv_heads, tokens_),
                .next_position = static_cast<position_type>(tokens_)};
    }

  private:
    [[nodiscard]] tensor_view<float, 3> scores(std::size_t rows) const noexcept {
        auto view = make_view(static_cast<float*>(probabilities_.data()), layer_shape::query_heads,
                              layer_shape::window, tokens_);
        view.extents[2] = rows;
        return view;
    }
    [[nodiscard]] tensor_view<float, 2> by_row(std::vector<float>& values) const noexcept {
        return make_view(values.data(), layer_shape::kv_heads, tokens_);
    }

    void attend(std::size_t first, std::size_t count, bool scored) {
        const auto rows = [&](auto* data) {
            return make_view(data, tokens_, layer_shape::query_heads, layer_shape::width).rows(first, count);
        };
        std::vector<attention::kv_head<element>> seen = heads_;
        for (auto& head : seen)
            head.rows = first + count; // what is already there when these queries come
        attention::sequence<element> one{
            .queries = rows(std::as_const(queries_).data()), .heads = seen, .output = rows(output_.data())};
        if (scored)
            one.scores = scores(first + count);
        throw_if_failed(attention::host{}(attention::problem<element>{.sequences = {&one, 1}}, run_));
        keep(output_);
    }

    std::size_t tokens_;
    plain_memory memory_;
    kv_cache<element> cache_;
    std::vector<attention::kv_head<element>> heads_;
    std::vector<float> queries_;
    std::vector<float> output_;
    std::vector<bfloat16> projection_;
    plain_memory probabilities_;
    std::vector<float> sums_;
    std::vector<float> key_norms_;
    std::vector<float> similarity_;
    std::vector<float> output_norms_;
    std::vector<eviction::head_rows> rows_;
    attention::inline_executor run_;
};

} // namespace vtensor::bench
