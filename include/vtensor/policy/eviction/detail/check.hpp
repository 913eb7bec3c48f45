// SPDX-License-Identifier: Apache-2.0
//
// Whether the evidence is there that a policy asks for, in the shapes that it must have.
#pragma once

#include <vtensor/policy/eviction/evidence.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace vtensor::eviction::detail {

/// Rows of the longest head.
[[nodiscard]] inline std::size_t longest_head(const layer_evidence& layer) noexcept {
    std::size_t longest = 0;
    for (const head_rows& head : layer.heads)
        longest = std::max(longest, head.rows);
    return longest;
}

/// Rows for some number of query heads, the same number for every KV head.
template <class View>
[[nodiscard]] bool covers_query_heads(const View& view, std::size_t heads, std::size_t rows) noexcept {
    return view.data != nullptr && view.extents[0] != 0 && view.extents[0] % heads == 0 &&
           view.extents[View::rank - 1] >= rows;
}

[[nodiscard]] inline bool covers_heads(const tensor_view<const float, 2>& view, std::size_t heads,
                                       std::size_t rows) noexcept {
    return view.data != nullptr && view.extents[0] == heads && view.extents[1] >= rows;
}

/// A layer without rows needs no evidence.
[[nodiscard]] inline bool covers(const layer_evidence& layer, const evidence_needs& needs) noexcept {
    const std::size_t heads = layer.heads.size();
    const std::size_t rows = longest_head(layer);
    if (heads == 0)
        return false;
    if (rows == 0)
        return true;
    return (needs.window_queries == 0 ||
            (covers_query_heads(layer.probabilities, heads, rows) && layer.probabilities.extents[1] != 0)) &&
           (!needs.accumulated || covers_query_heads(layer.accumulated, heads, rows)) &&
           (!needs.key_norms || covers_heads(layer.key_norms, heads, rows)) &&
           (!needs.key_similarity || covers_heads(layer.key_similarity, heads, rows)) &&
           (!needs.output_norms || covers_heads(layer.output_norms, heads, rows)) &&
           (!needs.recurrence || covers_heads(layer.recurrence, heads, rows));
}

} // namespace vtensor::eviction::detail
