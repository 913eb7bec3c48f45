// SPDX-License-Identifier: Apache-2.0
//
// Gathers for every layer what an eviction policy wants to be shown, step by step: sums and windows of
// probabilities, counters of recurrence, norms. It chooses nothing.
#pragma once

#include "io/weights.hpp"
#include "model/kv_cache.hpp"
#include "model/thread_pool.hpp"

#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/policy/eviction/accumulated_attention.hpp>
#include <vtensor/policy/eviction/evidence.hpp>
#include <vtensor/policy/eviction/recurrence_tracker.hpp>

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace decoder {

class evidence_maker {
  public:
    struct sizes {
        std::size_t layers = 0;
        std::size_t query_heads = 0;
        std::size_t kv_heads = 0;
        std::size_t head_dim = 0;
    };

    evidence_maker(const sizes& model, const vtensor::eviction::evidence_needs& needs,
                   float recurrence_threshold, std::vector<weight> output_weights);

    /// Where attention over a layer of `rows` rows leaves the probabilities of its last queries, of `count`.
    [[nodiscard]] vtensor::tensor_view<float, 3> watch(std::size_t count, std::size_t rows);
    /// The layer's probabilities are there.
    [[nodiscard]] vtensor::status note(std::size_t layer,
                                       std::span<const vtensor::eviction::head_rows> heads);

    /// Everything that the policy needs of one layer. Valid until the next step.
    [[nodiscard]] vtensor::result<vtensor::eviction::layer_evidence>
    show(std::size_t layer, const kv_heads& rows, std::span<const vtensor::eviction::head_rows> heads,
         std::size_t tokens, thread_pool& threads);

    /// The rows of a head were moved.
    void follow(std::size_t layer, std::size_t kv_head, const vtensor::defrag::plan& moves);

    /// The last queries of a step that it watches.
    [[nodiscard]] std::size_t window() const noexcept { return needs_.window_queries; }

  private:
    struct layer_state {
        std::optional<vtensor::eviction::accumulated_attention> sums;
        std::optional<vtensor::eviction::recurrence_tracker> recurrence;
        std::vector<float> window; ///< [query head, query, row] of the last step
        std::size_t queries = 0;
        std::size_t rows = 0;
        std::vector<float> key_norms, key_similarity, output_norms; ///< [KV head, row]
    };

    [[nodiscard]] bool watches_all() const noexcept { return needs_.accumulated || needs_.recurrence; }

    sizes model_;
    vtensor::eviction::evidence_needs needs_;
    std::vector<weight> output_weights_;
    std::vector<layer_state> layers_;
    std::vector<float> watched_; ///< of the layer that attends now
    vtensor::tensor_view<float, 3> watching_{};
    std::vector<float> projection_; ///< W_O of one layer
};

} // namespace decoder
