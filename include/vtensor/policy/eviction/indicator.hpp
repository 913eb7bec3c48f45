// SPDX-License-Identifier: Apache-2.0
//
// Indicators: where scores come from. One that looks at queries gives *planes*, a row of columns for every
// query head of the group and every query, which an aggregation turns into one score a column; the others
// give the scores themselves. Higher is better. Each says what evidence it needs.
#pragma once

#include <vtensor/policy/eviction/part.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace vtensor::eviction::indicator {

/// Newer is better; nothing is looked at. What StreamingLLM (arXiv 2309.17453) keeps beside its sinks.
struct position_only {
    using category = part::indicator;
    [[nodiscard]] constexpr evidence_needs needs() const noexcept { return {}; }
    void score(const head_columns& head, std::span<float> scores) const noexcept {
        for (std::size_t column = 0; column < scores.size(); ++column)
            scores[column] = static_cast<float>(head.position(column));
    }
};

/// The attention of the last queries, a plane each: the observation window of SnapKV (arXiv 2404.14469).
template <std::size_t Queries = 32>
struct window_queries {
    using category = part::indicator;
    std::size_t queries = Queries; ///< at least 1; where fewer are shown, all of them

    [[nodiscard]] constexpr bool valid() const noexcept { return queries > 0; }
    [[nodiscard]] constexpr evidence_needs needs() const noexcept { return {.window_queries = queries}; }
    [[nodiscard]] std::size_t group(const head_columns& head) const noexcept {
        return head.evidence->probabilities.extents[0] / head.evidence->heads.size();
    }
    [[nodiscard]] std::size_t shown_queries(const head_columns& head) const noexcept {
        return std::min(queries, head.evidence->probabilities.extents[1]);
    }
    [[nodiscard]] const float* plane(const head_columns& head, std::size_t member, std::size_t query,
                                     float* scratch) const noexcept {
        const auto& shown = head.evidence->probabilities;
        const auto rows = shown[head.head * group(head) + member];
        const auto row = rows[rows.extents[0] - shown_queries(head) + query];
        return head.columns_of(row.data, row.strides[0], scratch);
    }
};

/// The attention of the last query alone: TOVA (arXiv 2401.06104).
struct last_query {
    using category = part::indicator;
    [[nodiscard]] constexpr evidence_needs needs() const noexcept { return {.window_queries = 1}; }
    [[nodiscard]] std::size_t group(const head_columns& head) const noexcept { return one.group(head); }
    [[nodiscard]] std::size_t shown_queries(const head_columns&) const noexcept { return 1; }
    [[nodiscard]] const float* plane(const head_columns& head, std::size_t member, std::size_t query,
                                     float* scratch) const noexcept {
        return one.plane(head, member, query, scratch);
    }

  private:
    static constexpr window_queries<1> one{};
};

/// The sum of attention over all queries so far, a plane a query head: H2O (arXiv 2306.14048).
struct accumulated {
    using category = part::indicator;
    [[nodiscard]] constexpr evidence_needs needs() const noexcept { return {.accumulated = true}; }
    [[nodiscard]] std::size_t group(const head_columns& head) const noexcept {
        return head.evidence->accumulated.extents[0] / head.evidence->heads.size();
    }
    [[nodiscard]] std::size_t shown_queries(const head_columns&) const noexcept { return 1; }
    [[nodiscard]] const float* plane(const head_columns& head, std::size_t member, std::size_t,
                                     float* scratch) const noexcept {
        const auto row = head.evidence->accumulated[head.head * group(head) + member];
        return head.columns_of(row.data, row.strides[0], scratch);
    }
};

/// The same divided by the number of queries that saw the row, tokens − position: the mean of a column of the
/// causal attention ("observed attention" of NVIDIA's kvpress).
struct column_mean : accumulated {
    [[nodiscard]] const float* plane(const head_columns& head, std::size_t member, std::size_t query,
                                     float* scratch) const noexcept {
        const float* sums = accumulated::plane(head, member, query, scratch);
        for (std::size_t column = 0; column < head.scored; ++column)
            scratch[column] = sums[column] / static_cast<float>(head.next_position - head.position(column));
        return scratch;
    }
};

/// −‖k‖₂: keys of small norm attract attention (arXiv 2406.11430).
struct key_norm {
    using category = part::indicator;
    [[nodiscard]] constexpr evidence_needs needs() const noexcept { return {.key_norms = true}; }
    void score(const head_columns& head, std::span<float> scores) const noexcept {
        const auto row = head.evidence->key_norms[head.head];
        const float* norms = head.columns_of(row.data, row.strides[0], scores.data());
        for (std::size_t column = 0; column < scores.size(); ++column)
            scores[column] = -norms[column];
    }
};

/// −cos(k, mean of the normalised keys): what is unlike the others stays (KeyDiff, arXiv 2504.15364).
struct key_difference {
    using category = part::indicator;
    [[nodiscard]] constexpr evidence_needs needs() const noexcept { return {.key_similarity = true}; }
    void score(const head_columns& head, std::span<float> scores) const noexcept {
        const auto row = head.evidence->key_similarity[head.head];
        const float* cosines = head.columns_of(row.data, row.strides[0], scores.data());
        for (std::size_t column = 0; column < scores.size(); ++column)
            scores[column] = -cosines[column];
    }
};

/// What a `recurrence_tracker` thinks of the row: LazyEviction (arXiv 2506.15969).
struct recurrence {
    using category = part::indicator;
    [[nodiscard]] constexpr evidence_needs needs() const noexcept { return {.recurrence = true}; }
    void score(const head_columns& head, std::span<float> scores) const noexcept {
        const auto row = head.evidence->recurrence[head.head];
        const float* importance = head.columns_of(row.data, row.strides[0], scores.data());
        if (importance != scores.data())
            std::copy_n(importance, scores.size(), scores.begin());
    }
};

} // namespace vtensor::eviction::indicator
