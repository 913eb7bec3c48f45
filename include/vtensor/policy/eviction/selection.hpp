// SPDX-License-Identifier: Apache-2.0
//
// Selection: from scores and a count to the columns that stay. Guards are marked before and never compete.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/policy/eviction/detail/mark_top.hpp>
#include <vtensor/policy/eviction/detail/over_heads.hpp>
#include <vtensor/policy/eviction/part.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace vtensor::eviction::selection {

/// The highest scores, of equal ones the newer. O(columns) by nth_element.
struct top_k {
    using category = part::selection;

    /// Marks `wanted` columns of all `heads` together that are not marked yet, or all there are.
    void select(std::span<head_columns> heads, std::size_t wanted, scratch_memory& scratch) const {
        detail::mark_top(
            heads, wanted,
            [](const head_columns& head) {
                return detail::contest{.values = head.scores.data(),
                                       .excluded = head.kept.data(),
                                       .marks = head.kept.data(),
                                       .count = head.scored};
            },
            scratch);
    }
};

/// Whole windows of `width` positions, the same for all heads of a layer, by the mean score over heads and
/// tokens, of equal ones the newer. The lowest ceil((n − budget) / width) go, n the positions that the
/// windows cover before the recent one (the last of them may be cut short by it); rows that are missing in a
/// window count as if they were there, so that no head keeps more than the budget. WindowKV (arXiv
/// 2503.17922). O(columns).
template <std::size_t Width = 8>
struct whole_windows {
    using category = part::selection;
    static constexpr eviction_scope scope = eviction_scope::layer;
    static constexpr bool by_window = true;
    std::size_t width = Width;

    [[nodiscard]] constexpr bool valid() const noexcept { return width > 0; }

    /// Decides which windows stay where every head keeps `rows` beside its guards: scratch.flags by window.
    void decide(layer_columns& layer, std::size_t rows) const {
        scratch_memory& scratch = *layer.scratch;
        const std::size_t windows = layer.next_position / width + 1;
        grow(scratch.by_position, windows);
        grow(scratch.counts, windows);
        scratch.flags.assign(std::max(windows, scratch.flags.size()), 0);
        const auto visit_all = [&](auto&& visit) {
            for (const head_columns& head : layer.heads)
                detail::for_each_window(head, width, [&](std::size_t first, std::size_t last) {
                    visit(head, first, last, head.position(first) / width);
                });
        };
        visit_all([&](const head_columns&, std::size_t, std::size_t, std::size_t window) {
            scratch.by_position[window] = 0;
            scratch.counts[window] = 0;
        });
        visit_all([&](const head_columns& head, std::size_t first, std::size_t last, std::size_t window) {
            double sum = 0;
            for (std::size_t column = first; column < last; ++column)
                sum += static_cast<double>(head.scores[column]);
            scratch.by_position[window] += static_cast<float>(sum / static_cast<double>(last - first));
            ++scratch.counts[window];
        });
        auto& ranked = scratch.ties; // of these only `position` is used, as the window's number
        ranked.clear();
        visit_all([&](const head_columns&, std::size_t, std::size_t, std::size_t window) {
            if (scratch.flags[window] != 0)
                return;
            scratch.flags[window] = 1;
            scratch.by_position[window] /= static_cast<float>(scratch.counts[window]);
            ranked.push_back({.position = static_cast<position_type>(window)});
        });
        std::size_t covered = 0;
        if (!ranked.empty()) {
            const std::size_t last = std::ranges::max(ranked, {}, &tied_column::position).position;
            const std::size_t end =
                layer.next_position - std::min<std::size_t>(layer.window, layer.next_position);
            covered = (ranked.size() - 1) * width + std::min(width, end - last * width);
        }
        const std::size_t surplus = covered > rows ? covered - rows : 0;
        const std::size_t dropped = surplus / width + static_cast<std::size_t>(surplus % width != 0);
        const auto worse = [&](const tied_column& a, const tied_column& b) {
            const float left = scratch.by_position[a.position];
            const float right = scratch.by_position[b.position];
            return left != right ? left < right : a.position < b.position;
        };
        if (dropped < ranked.size())
            std::nth_element(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(dropped),
                             ranked.end(), worse);
        for (std::size_t index = 0; index < dropped; ++index)
            scratch.flags[ranked[index].position] = 0;
    }

    /// Marks the columns of the windows that stay.
    void mark(layer_columns& layer) const {
        for (head_columns& head : layer.heads)
            detail::for_each_window(head, width, [&](std::size_t first, std::size_t last) {
                if (layer.scratch->flags[head.position(first) / width] != 0)
                    std::fill(head.kept.begin() + static_cast<std::ptrdiff_t>(first),
                              head.kept.begin() + static_cast<std::ptrdiff_t>(last), std::uint8_t{1});
            });
    }

  private:
    template <class V>
    static void grow(std::vector<V>& entries, std::size_t count) {
        if (entries.size() < count)
            entries.resize(count);
    }
};

} // namespace vtensor::eviction::selection
