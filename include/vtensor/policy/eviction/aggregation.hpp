// SPDX-License-Identifier: Apache-2.0
//
// Aggregations: how the planes of a head (one a query of every grouped query head) become one score a column.
// Pooling comes before, plane by plane; where both are linear it is done once, after.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/policy/eviction/detail/over_heads.hpp>
#include <vtensor/policy/eviction/detail/row_loops.hpp>
#include <vtensor/policy/eviction/part.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>

namespace vtensor::eviction::aggregate {

namespace detail {

using namespace vtensor::eviction::detail;

/// Adds all planes of one member of the group to `sums`.
template <class Planes>
void add_planes(const Planes& planes, std::size_t member, std::span<float> sums) {
    const std::size_t queries = planes.queries();
    std::size_t query = 0;
    if (planes.in_place())
        for (; query + 4 <= queries; query += 4)
            add_four_rows(sums.data(), planes(member, query), planes(member, query + 1),
                          planes(member, query + 2), planes(member, query + 3), sums.size());
    for (; query < queries; ++query)
        add_row(sums.data(), planes(member, query), sums.size());
}

/// Calls visit(row, sum) for every plane.
template <class Planes, class Visit>
void for_each_plane(const Planes& planes, std::size_t n, const Visit& visit) {
    const bool in_place = planes.in_place();
    for (std::size_t member = 0; member < planes.group(); ++member) {
        std::size_t query = 0;
        for (; in_place && query + 4 <= planes.queries(); query += 4) {
            const float* const rows[4] = {planes(member, query), planes(member, query + 1),
                                          planes(member, query + 2), planes(member, query + 3)};
            double sums[4];
            sum_four_rows(rows, n, sums);
            for (std::size_t index = 0; index < 4; ++index)
                visit(rows[index], sums[index]);
        }
        for (; query < planes.queries(); ++query) {
            const float* const row = planes(member, query);
            visit(row, sum_row(row, n));
        }
    }
}

/// Hands a plane of the sum `sum` to visit(first, columns, count, factor) in blocks that stay in the nearest
/// cache, pooled; each is to be multiplied by `factor`. False where the plane holds what is not finite.
template <class Pooling, class Visit>
bool pooled_blocks(const Pooling& pooling, const float* row, std::size_t n, double sum, const Visit& visit) {
    if constexpr (Pooling::is_none) {
        visit(0, row, n, 1.0f);
    } else {
        constexpr std::size_t block = 1024;
        float pooled[block];
        const float factor = pooling.scale(row, n, sum);
        for (std::size_t first = 0; first < n; first += block) {
            const std::size_t count = std::min(block, n - first);
            pooling.pool(row, n, first, first + count, pooled);
            visit(first, pooled, count, factor);
        }
    }
    return std::isfinite(sum);
}

/// Every plane, pooled, goes into head.scores by combine(scores, columns, factor, count), from `start` on;
/// the mean of all planes before pooling into head.mean, where it has room. False where a plane holds what is
/// not finite.
template <class Planes, class Pooling, class Combine>
bool fold_planes(const Planes& planes, const Pooling& pooling, head_columns& head, float start,
                 const Combine& combine) {
    const std::size_t n = head.scores.size();
    std::ranges::fill(head.scores, start);
    std::ranges::fill(head.mean, 0.0f);
    bool finite = true;
    for_each_plane(planes, n, [&](const float* row, double sum) {
        if (!head.mean.empty())
            add_row(head.mean.data(), row, n);
        finite &=
            pooled_blocks(pooling, row, n, sum,
                          [&](std::size_t first, const float* columns, std::size_t count, float factor) {
                              combine(head.scores.data() + first, columns, factor, count);
                          });
    });
    scale_row(head.mean.data(), 1.0f / static_cast<float>(planes.group() * planes.queries()),
              head.mean.size());
    return finite;
}

/// Pools `row` in place.
template <class Pooling>
void pool_in_place(const Pooling& pooling, std::span<float> row, float* scratch) noexcept {
    if constexpr (!Pooling::is_none) {
        pooling.pool(row.data(), row.size(), 0, row.size(), scratch);
        std::copy_n(scratch, row.size(), row.data());
    }
}

/// head.mean, where it is wanted: the mean of all planes before pooling.
template <class Planes>
void mean_of_planes(const Planes& planes, std::span<float> mean) {
    std::ranges::fill(mean, 0.0f);
    for (std::size_t member = 0; member < planes.group(); ++member)
        add_planes(planes, member, mean);
    eviction::detail::scale_row(mean.data(), 1.0f / static_cast<float>(planes.group() * planes.queries()),
                                mean.size());
}

} // namespace detail

/// The mean over queries and grouped heads: SnapKV (arXiv 2404.14469), and what most methods do.
struct mean {
    using category = part::aggregation;

    /// Writes head.scores, and head.mean where it has room. False where the planes hold what is not finite.
    template <class Planes, class Pooling>
    bool reduce(const Planes& planes, const Pooling& pooling, head_columns& head,
                scratch_memory& scratch) const {
        const std::size_t n = head.scores.size();
        if (pooling.keep_row_sum) {
            detail::fold_planes(planes, pooling, head, 0.0f, detail::add_scaled_row);
            detail::scale_row(head.scores.data(),
                              1.0f / static_cast<float>(planes.group() * planes.queries()), n);
        } else {
            if (!head.mean.empty())
                detail::mean_of_planes(planes, head.mean);
            detail::mean_of_planes(planes, head.scores);
            detail::pool_in_place(pooling, head.scores, scratch.pooled.data());
        }
        return detail::all_finite(head.scores.data(), n);
    }
};

/// The largest over queries and grouped heads: what a single query needed once stays. The R of DefensiveKV
/// (arXiv 2510.13334), without its clamp.
struct max {
    using category = part::aggregation;

    template <class Planes, class Pooling>
    bool reduce(const Planes& planes, const Pooling& pooling, head_columns& head, scratch_memory&) const {
        return detail::fold_planes(planes, pooling, head, std::numeric_limits<float>::lowest(),
                                   detail::raise_to_row);
    }
};

/// `max`, and never below the head's mean of it: DefensiveKV (arXiv 2510.13334), S = max(R, mean of R).
struct defensive : max {
    template <class Planes, class Pooling>
    bool reduce(const Planes& planes, const Pooling& pooling, head_columns& head,
                scratch_memory& scratch) const {
        if (!max::reduce(planes, pooling, head, scratch))
            return false;
        const std::size_t n = head.scores.size();
        const double average = detail::sum_row(head.scores.data(), n) / static_cast<double>(n);
        detail::clamp_row(head.scores.data(), static_cast<float>(average), n);
        return true;
    }
};

/// The mean over queries and all heads of the layer, the same for all of them: TOVA (arXiv 2401.06104). Where
/// heads hold different rows, the mean over those that hold the row.
struct mean_over_layer : mean {
    static constexpr eviction_scope scope = eviction_scope::layer;

    void share(layer_columns& layer) const { detail::average_over_heads(layer); }
};

/// For every window of `width` positions the mean of its `best` highest tokens, query head by query head and
/// then over the group: WindowKV's "max" (arXiv 2503.17922). All columns of a window get that score.
template <std::size_t Width = 8, std::size_t Best = 4>
struct window_best {
    using category = part::aggregation;
    std::size_t width = Width; ///< positions a window; window w holds those from w · width on
    std::size_t best = Best;   ///< at least 1; a window with fewer tokens counts all

    [[nodiscard]] constexpr bool valid() const noexcept { return width > 0 && best > 0; }

    template <class Planes, class Pooling>
    bool reduce(const Planes& planes, const Pooling& pooling, head_columns& head,
                scratch_memory& scratch) const {
        const std::size_t n = head.scores.size();
        if (!head.mean.empty())
            detail::mean_of_planes(planes, head.mean);
        std::ranges::fill(head.scores, 0.0f);
        if (scratch.values.size() < n)
            scratch.values.resize(n);
        const std::span sums{scratch.values.data(), n};
        const float share = 1.0f / static_cast<float>(planes.group() * planes.queries());
        for (std::size_t member = 0; member < planes.group(); ++member) {
            std::ranges::fill(sums, 0.0f);
            detail::add_planes(planes, member, sums);
            detail::pool_in_place(pooling, sums, scratch.pooled.data());
            if (!detail::all_finite(sums.data(), n))
                return false;
            detail::for_each_window(head, width, [&](std::size_t first, std::size_t last) {
                const std::size_t top = std::min(best, last - first);
                const auto from = sums.begin() + static_cast<std::ptrdiff_t>(first);
                const auto to = sums.begin() + static_cast<std::ptrdiff_t>(last);
                std::partial_sort(from, from + static_cast<std::ptrdiff_t>(top), to, std::greater<>{});
                float sum = 0;
                for (std::size_t rank = 0; rank < top; ++rank)
                    sum += from[static_cast<std::ptrdiff_t>(rank)];
                for (std::size_t column = first; column < last; ++column)
                    head.scores[column] += sum * share / static_cast<float>(top);
            });
        }
        return true;
    }
};

} // namespace vtensor::eviction::aggregate
