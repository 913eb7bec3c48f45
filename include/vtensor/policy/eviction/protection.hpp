// SPDX-License-Identifier: Apache-2.0
//
// Protection: a first stage that secures some columns before the second one compares the rest. What it marks
// gets the layer's highest score once weighting is done; guards are masks and need none of it.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/policy/eviction/detail/mark_top.hpp>
#include <vtensor/policy/eviction/detail/row_loops.hpp>
#include <vtensor/policy/eviction/part.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <span>

namespace vtensor::eviction::protection {

/// No first stage.
struct none {
    using category = part::protection;
    static constexpr bool wants_mean = false;
    void mark(layer_columns&) const noexcept {}
};

/// The columns that hold most of the attention, until the next one would bring their share to `mass` − b: b
/// is the mean, over heads and queries, of the attention on as many of the last scored columns as the recent
/// window has positions. At most kept fraction × scored columns − window a head. The first stage of
/// DefensiveKV as its authors published it (arXiv 2510.13334). Attention is the mean of the planes before
/// pooling. Expected O(columns).
struct mass {
    using category = part::protection;
    static constexpr eviction_scope scope = eviction_scope::layer;
    static constexpr bool wants_mean = true;
    double threshold = 0.9; ///< the share of the attention

    [[nodiscard]] bool valid() const noexcept { return std::isfinite(threshold); }

    void mark(layer_columns& layer) const {
        double bias = 0;
        for (const head_columns& head : layer.heads) {
            const std::size_t recent = std::min(layer.window, head.scored);
            bias += detail::sum_row(head.mean.data() + head.scored - recent, recent);
        }
        bias /= static_cast<double>(layer.heads.size());
        for (head_columns& head : layer.heads) {
            const double kept = layer.kept_fraction * static_cast<double>(head.scored);
            const double most = std::floor(kept) - static_cast<double>(layer.window);
            if (most < 1)
                continue;
            const std::size_t count = columns_before(head.mean, threshold - bias,
                                                     static_cast<std::size_t>(most), layer.scratch->values);
            detail::mark_top(
                {&head, 1}, count,
                [](const head_columns& one) {
                    return detail::contest{.values = one.mean.data(),
                                           .excluded = one.raised.data(),
                                           .marks = one.raised.data(),
                                           .count = one.scored};
                },
                *layer.scratch);
        }
    }

  private:
    /// How many of the highest values come before the one with which their sum reaches `share` of the total;
    /// at most `most`.
    static std::size_t columns_before(std::span<const float> values, double share, std::size_t most,
                                      std::vector<float>& scratch) {
        const double total = detail::sum_row(values.data(), values.size());
        if (!(total > 0))
            return 0;
        if (scratch.size() < values.size())
            scratch.resize(values.size());
        std::copy(values.begin(), values.end(), scratch.begin());
        // The highest `low` values together stay below the share, the highest `high` reach it or are the most
        // allowed.
        double below = 0;
        std::size_t low = 0;
        std::size_t high = std::min(most, values.size());
        std::nth_element(scratch.data(), scratch.data() + high, scratch.data() + values.size(),
                         std::greater<>{});
        while (low < high) {
            const std::size_t middle = low + (high - low) / 2;
            float* const first = scratch.data() + low;
            std::nth_element(first, scratch.data() + middle, scratch.data() + high, std::greater<>{});
            double sum = 0;
            for (std::size_t index = low; index <= middle; ++index)
                sum += static_cast<double>(scratch[index]);
            if (below + sum >= share * total) {
                high = middle;
            } else {
                below += sum;
                low = middle + 1;
            }
        }
        return low;
    }
};

/// Of every head the highest `share` of its even budget, guards counted, by the scores before weighting: the
/// first stage of CriticalKV (arXiv 2502.03805).
struct best_share {
    using category = part::protection;
    static constexpr bool wants_mean = false;
    double share = 0.5;

    [[nodiscard]] constexpr bool valid() const noexcept { return share >= 0 && share <= 1; }

    void mark(layer_columns& layer) const {
        const double wanted = layer.kept_fraction * static_cast<double>(layer.next_position) * share;
        for (head_columns& head : layer.heads) {
            const auto guards = static_cast<double>(std::count(head.kept.begin(), head.kept.end(), 1));
            const double free = std::min(std::floor(wanted) - guards, static_cast<double>(head.scored));
            if (free < 1)
                continue;
            detail::mark_top(
                {&head, 1}, static_cast<std::size_t>(free),
                [](const head_columns& one) {
                    return detail::contest{.values = one.scores.data(),
                                           .excluded = one.kept.data(),
                                           .marks = one.raised.data(),
                                           .count = one.scored};
                },
                *layer.scratch);
        }
    }
};

} // namespace vtensor::eviction::protection
