// SPDX-License-Identifier: Apache-2.0
//
// Weightings: scores of attention times what the values would do to the output. With the layer's output
// projection W_O, u[h, j] = mean over the query heads g of KV head h of ‖v_j W_O^g‖₁ (`output_norms`).
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/policy/eviction/detail/over_heads.hpp>
#include <vtensor/policy/eviction/part.hpp>

#include <cstddef>

namespace vtensor::eviction::weighting {

/// Scores stay as they are.
struct none {
    using category = part::weighting;
    void apply(layer_columns&) const noexcept {}
};

/// S ← (S + epsilon) · u: CriticalKV (arXiv 2502.03805).
struct output_norms {
    using category = part::weighting;
    float epsilon = 1e-4f; ///< so that norms still count where there is no attention

    [[nodiscard]] constexpr evidence_needs needs() const noexcept { return {.output_norms = true}; }
    void apply(layer_columns& layer) const noexcept {
        for (head_columns& head : layer.heads) {
            const auto row = head.evidence->output_norms[head.head];
            const float* norms = head.columns_of(row.data, row.strides[0], layer.scratch->row.data());
            for (std::size_t column = 0; column < head.scores.size(); ++column)
                head.scores[column] = (head.scores[column] + epsilon) * norms[column];
        }
    }
};

/// S ← S · u[h, j] / Σ over the layer's heads h' of u[h', j]: DefensiveKV (arXiv 2510.13334). The sum is over
/// the heads that hold the row; a row whose norms are all 0 gets the score 0.
struct output_norms_over_heads {
    using category = part::weighting;
    static constexpr eviction_scope scope = eviction_scope::layer;

    [[nodiscard]] constexpr evidence_needs needs() const noexcept { return {.output_norms = true}; }
    void apply(layer_columns& layer) const {
        auto& sums = layer.scratch->by_position;
        if (sums.size() < layer.next_position)
            sums.resize(layer.next_position);
        const auto norms_of = [&](const head_columns& head) {
            const auto row = head.evidence->output_norms[head.head];
            return head.columns_of(row.data, row.strides[0], layer.scratch->row.data());
        };
        for (const head_columns& head : layer.heads)
            detail::for_each_position(head, [&](std::size_t, std::size_t position) { sums[position] = 0; });
        for (const head_columns& head : layer.heads)
            detail::for_each_position(head,
                                      [&, norms = norms_of(head)](std::size_t column, std::size_t position) {
                                          sums[position] += norms[column];
                                      });
        for (head_columns& head : layer.heads)
            detail::for_each_position(head,
                                      [&, norms = norms_of(head)](std::size_t column, std::size_t position) {
                                          const float sum = sums[position];
                                          head.scores[column] *= sum == 0 ? 0.0f : norms[column] / sum;
                                      });
    }
};

} // namespace vtensor::eviction::weighting
