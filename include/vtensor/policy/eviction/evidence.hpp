// SPDX-License-Identifier: Apache-2.0
//
// What an eviction policy decides from: plain float arrays that an engine has filled by the attention room's
// kernels, or by its own. A policy knows nothing of elements, devices or memory.
#pragma once

#include <vtensor/core/rows.hpp>
#include <vtensor/view.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace vtensor::eviction {

/// What a policy wants to be shown. What it does not ask for may be left empty.
struct evidence_needs {
    std::size_t window_queries = 0; ///< `probabilities` of that many last queries; 0: none
    bool accumulated = false;
    bool key_norms = false;
    bool key_similarity = false;
    bool output_norms = false;
    bool recurrence = false;

    /// What two parts want together.
    friend constexpr evidence_needs operator|(const evidence_needs& a, const evidence_needs& b) noexcept {
        return {.window_queries = std::max(a.window_queries, b.window_queries),
                .accumulated = a.accumulated || b.accumulated,
                .key_norms = a.key_norms || b.key_norms,
                .key_similarity = a.key_similarity || b.key_similarity,
                .output_norms = a.output_norms || b.output_norms,
                .recurrence = a.recurrence || b.recurrence};
    }
    friend constexpr bool operator==(const evidence_needs&, const evidence_needs&) noexcept = default;
};

/// The rows of one KV head. Heads of a layer may have different numbers of rows and different rows.
struct head_rows {
    std::size_t rows = 0; ///< slots in use, dead ones included
    /// The position of every row, in any order, each at most once; null: row r has position r. Rows at
    /// `no_position` are dead: never a candidate, never kept.
    const position_type* positions = nullptr;
};

/// What attention has shown of one layer. Arrays are indexed by slot, and have at least as many columns as
/// the longest head has rows; what lies beyond a head's rows and at dead ones is not read. Inner dimensions
/// of stride 1 are read fastest.
struct layer_evidence {
    std::span<const head_rows> heads; ///< one a KV head; query head h belongs to KV head h / G
    /// [query head, W, row]: softmax probabilities of the last W queries (`attention::sequence::scores`). A
    /// policy that asks for more queries than these reads all there are.
    tensor_view<const float, 3> probabilities{};
    /// [query head, row]: sum of the probabilities over all queries so far.
    tensor_view<const float, 2> accumulated{};
    /// [KV head, row]: ‖k‖₂.
    tensor_view<const float, 2> key_norms{};
    /// [KV head, row]: cosine of the key and the mean of the head's normalised keys.
    tensor_view<const float, 2> key_similarity{};
    /// [KV head, row]: mean over the G query heads g of ‖v·W_O^g‖₁.
    tensor_view<const float, 2> output_norms{};
    /// [KV head, row]: importance by a `recurrence_tracker`.
    tensor_view<const float, 2> recurrence{};
    /// Tokens seen so far, evicted ones included; 0: one more than the newest position of the heads.
    position_type next_position = 0;
};

} // namespace vtensor::eviction
