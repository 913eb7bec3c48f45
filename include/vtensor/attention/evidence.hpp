// SPDX-License-Identifier: Apache-2.0
//
// What an eviction policy decides from, beside the probabilities that attention writes: norms of keys, their
// likeness to their mean, norms of what values contribute to the layer's output, and sums of probabilities.
// By vector instructions, for the instruction set that the including file is compiled for, as `host`.
//
// All functions take the heads as attention does, an executor, and a view [head, row] of floats to write.
// They allocate nothing; a task takes up to 128 KiB of its thread's stack. How the work is cut depends on the
// shapes alone and tasks write disjoint floats, so that every executor gives the same bits. Evicted rows (at
// `no_position`) are never read; they, and columns beyond the rows of a head, become 0. Elements that are no
// number or infinite give unspecified floats for their head. Errors: `invalid_argument` where views and heads
// disagree, a width is 0, rows lack their memory, or what is written overlaps; nothing is written then.
#pragma once

#include <vtensor/attention/detail/evidence_check.hpp>
#include <vtensor/attention/detail/evidence_scalar.hpp>
#include <vtensor/attention/detail/key_evidence.hpp>
#include <vtensor/attention/detail/output_norms.hpp>
#include <vtensor/attention/executor.hpp>
#include <vtensor/attention/problem.hpp>
#include <vtensor/core/concepts.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>

namespace vtensor::attention {

namespace detail {

/// Has `run` do `body(head, first, last)` for all columns of every head of `written`, some at a time.
template <class Executor, class Body>
void each_part(const tensor_view<float, 2>& written, std::size_t columns, Executor& run, Body body) {
    const std::size_t parts = (written.extents[1] + columns - 1) / columns;
    run(written.extents[0] * parts, [&](std::size_t task) noexcept {
        const std::size_t first = task % parts * columns;
        body(task / parts, first, std::min(first + columns, written.extents[1]));
    });
}

} // namespace detail

// Files compiled for different instruction sets see different functions, so that linking them is sound.
inline namespace HWY_NAMESPACE {

/// ‖k‖₂ of every key into `norms`, [KV head, row]. O(rows × width).
template <attention_element T, class Executor>
requires task_executor<Executor> status key_norms(std::span<const kv_head<T>> heads, std::size_t key_width,
                                                  const tensor_view<float, 2>& norms, Executor&& run) {
    if (!detail::describe_evidence(heads, key_width, &kv_head<T>::keys, norms))
        return detail::malformed_evidence();
    detail::each_part(norms, 1024, run, [&](std::size_t index, std::size_t first, std::size_t last) {
        const kv_head<T>& head = heads[index];
        for (std::size_t row = first; row < last; ++row) {
            float& norm = norms(index, row) = 0;
            if (row >= head.rows || detail::is_dead(head, row))
                continue;
#if VTENSOR_ATTENTION_HAS_VECTORS
            norm = detail::HWY_NAMESPACE::length(detail::key_of(head, row), key_width);
#else
            norm = static_cast<float>(detail::scalar::length(detail::key_of(head, row), key_width));
#endif
        }
    });
    return {};
}

/// The cosine between every key and the mean of the normalised live keys of its head, into `similarity`, [KV
/// head, row]; 0 for a key of zeros and where the mean is zero (KeyDiff, arXiv 2504.15364). One task a KV
/// head. O(rows × width).
template <attention_element T, class Executor>
requires task_executor<Executor> status key_similarity(std::span<const kv_head<T>> heads,
                                                       std::size_t key_width,
                                                       const tensor_view<float, 2>& similarity,
                                                       Executor&& run) {
    if (!detail::describe_evidence(heads, key_width, &kv_head<T>::keys, similarity))
        return detail::malformed_evidence();
    if (similarity.size() == 0)
        return {};
    run(heads.size(), [&](std::size_t index) noexcept {
        const kv_head<T>& head = heads[index];
        float* row = &similarity(index, 0);
#if VTENSOR_ATTENTION_HAS_VECTORS
        detail::HWY_NAMESPACE::similarity_task<T>{head, key_width}.run(row);
#else
        detail::scalar::key_similarity(head, key_width, row);
#endif
        std::fill(row + head.rows, row + similarity.extents[1], 0.0f);
    });
    return {};
}

/// The mean over the query heads g of a KV head of ‖v W_O^g‖₁ of every value v, into `norms`, [KV head, row]
/// (CriticalKV, arXiv 2502.03805). `weights` is W_O as [query head, value width, hidden], with any strides:
/// the matrix [hidden, query heads × width] of a checkpoint is seen as strides {width, 1, query heads ×
/// width}. 2 · rows · query heads · width · hidden operations; widths above 384 (with vectors of 8 floats:
/// 768) go through scalar code.
template <attention_element T, class Weight, class Executor>
requires attention_element<std::remove_const_t<Weight>> && task_executor<Executor>
    status output_norms(std::span<const kv_head<T>> heads, const tensor_view<Weight, 3>& weights,
                        const tensor_view<float, 2>& norms, Executor&& run) {
    const tensor_view<const std::remove_const_t<Weight>, 3> projection = weights;
    const std::size_t width = heads.empty() ? 1 : weights.extents[1]; // no heads, no weights
    if (!detail::describe_evidence(heads, width, &kv_head<T>::values, norms) ||
        !detail::is_projection(projection, heads.size()))
        return detail::malformed_evidence();
    if (heads.empty())
        return {};
    const std::size_t group = weights.extents[0] / heads.size();
    std::size_t rows = 0;
#if VTENSOR_ATTENTION_HAS_VECTORS
    rows = detail::HWY_NAMESPACE::rows_in_norm_task(width);
#endif
    const bool scalar = rows == 0;
    detail::each_part(
        norms, scalar ? 64 : rows, run, [&](std::size_t index, std::size_t first, std::size_t last) {
            const kv_head<T>& head = heads[index];
            const std::size_t end = std::clamp(head.rows, first, last);
            std::fill(&norms(index, 0) + end, &norms(index, 0) + last, 0.0f);
#if VTENSOR_ATTENTION_HAS_VECTORS
            if (!scalar)
                return detail::HWY_NAMESPACE::output_norm_task<T, std::remove_const_t<Weight>>{
                    head, projection, index * group, group}
                    .run(first, end, &norms(index, 0));
#endif
            for (std::size_t row = first; row < end; ++row) {
                double sum = 0;
                if (!detail::is_dead(head, row))
                    for (std::size_t query_head = 0; query_head < group; ++query_head)
                        sum += detail::scalar::output_norm(detail::value_of(head, row), projection,
                                                           index * group + query_head);
                norms(index, row) = static_cast<float>(sum / static_cast<double>(group));
            }
        });
    return {};
}

/// Adds the probabilities of a block of queries, [query head, query, row] as attention writes them, to
/// `sums`, [query head, row]. `sums` may have more rows; those stay as they are. What attention never saw is
/// 0 there, so that nothing is known of heads or of evicted rows. O(queries × rows).
template <class Probability, class Executor>
requires std::same_as < std::remove_const_t<Probability>,
float > &&task_executor<Executor> status accumulate(const tensor_view<Probability, 3>& probabilities,
                                                    const tensor_view<float, 2>& sums, Executor&& run) {
    const tensor_view<const float, 3> from = probabilities;
    if (from.extents[0] != sums.extents[0] || from.extents[2] > sums.extents[1] ||
        !detail::is_evidence(sums) || !detail::has_contiguous_rows(from) ||
        (from.data == nullptr && from.size() != 0))
        return detail::malformed_evidence();
    if (from.size() == 0)
        return {};
    tensor_view<float, 2> part = sums;
    part.extents[1] = from.extents[2];
    detail::each_part(part, 4096, run, [&](std::size_t head, std::size_t first, std::size_t last) {
#if VTENSOR_ATTENTION_HAS_VECTORS
        detail::HWY_NAMESPACE::add_probabilities(from[head], first, last, &part(head, 0));
#else
        for (std::size_t row = first; row < last; ++row) {
            double sum = 0;
            for (std::size_t query = 0; query < from.extents[1]; ++query)
                sum += static_cast<double>(from(head, query, row));
            part(head, row) += static_cast<float>(sum);
        }
#endif
    });
    return {};
}

} // namespace HWY_NAMESPACE
} // namespace vtensor::attention
