// SPDX-License-Identifier: Apache-2.0
//
// Budgets: how many rows stay, and among whom they are shared. Counts include the guards unless a budget says
// otherwise. A budget of 0 or below the guards leaves the guards; one above the rows leaves everything.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/policy/eviction/part.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace vtensor::eviction {

/// Among whom the rows of a budget compete.
enum class sharing : std::uint8_t {
    head,  ///< every head has its own count
    layer, ///< the heads of a layer share one
    model, ///< the heads of all layers do
};

/// How much one head keeps on average: a number of rows, or what is left of the tokens seen so far when the
/// compression ratio of them is removed. The ratio is of the tokens, not of the rows that are left of them,
/// so that evicting twice removes nothing more.
struct amount {
    static constexpr std::size_t by_ratio = std::numeric_limits<std::size_t>::max();

    double compression_ratio = 0.8; ///< fraction removed, 0 … 1
    std::size_t tokens = by_ratio;  ///< counts where it is given

    [[nodiscard]] static constexpr amount removing(double ratio) noexcept {
        return {.compression_ratio = ratio};
    }
    [[nodiscard]] static constexpr amount of_tokens(std::size_t count) noexcept { return {.tokens = count}; }

    [[nodiscard]] constexpr bool valid() const noexcept {
        return tokens != by_ratio || (compression_ratio >= 0 && compression_ratio <= 1);
    }
    /// Rows of a head, not rounded, when `seen` tokens have been.
    [[nodiscard]] constexpr double rows(std::size_t seen) const noexcept {
        return tokens != by_ratio ? static_cast<double>(tokens)
                                  : static_cast<double>(seen) * (1 - compression_ratio);
    }
    /// The same as a fraction of the tokens.
    [[nodiscard]] constexpr double fraction(std::size_t seen) const noexcept {
        if (tokens == by_ratio)
            return 1 - compression_ratio;
        return seen == 0 ? 1 : std::min(1.0, static_cast<double>(tokens) / static_cast<double>(seen));
    }
};

namespace detail {

/// int(x) for counts: towards 0, clamped.
[[nodiscard]] constexpr std::size_t whole(double count) noexcept {
    if (!(count >= 1))
        return 0;
    return count >= 9e15 ? std::size_t{9'000'000'000'000'000} : static_cast<std::size_t>(count);
}

} // namespace detail

namespace budget {

/// Every head keeps the same number: `Rows`, or int(T · (1 − r)) as kvpress rounds.
template <std::size_t Rows = amount::by_ratio>
struct uniform {
    using category = part::budget;
    static constexpr eviction::sharing sharing = eviction::sharing::head;
    eviction::amount amount{.tokens = Rows};

    [[nodiscard]] std::size_t rows(const layer_columns& layer) const noexcept {
        return detail::whole(amount.rows(layer.next_position));
    }
};

/// Nothing beside the guards.
struct guards_only {
    using category = part::budget;
    static constexpr eviction::sharing sharing = eviction::sharing::head;
    static constexpr eviction::amount amount = eviction::amount::of_tokens(0);

    [[nodiscard]] std::size_t rows(const layer_columns&) const noexcept { return 0; }
};

/// The heads of a layer share heads × int(T · (1 − r)); each keeps at least the best int(`floor` · of its
/// even part): AdaKV (arXiv 2407.11550), as kvpress counts.
struct per_head_floor {
    using category = part::budget;
    static constexpr eviction::sharing sharing = eviction::sharing::layer;
    static constexpr eviction_scope scope = eviction_scope::layer;
    eviction::amount amount{};
    double floor = 0.2;

    [[nodiscard]] constexpr bool valid() const noexcept { return floor >= 0 && floor <= 1; }
    [[nodiscard]] std::size_t rows(const layer_columns& layer) const noexcept {
        return layer.heads.size() * detail::whole(amount.rows(layer.next_position));
    }
    [[nodiscard]] std::size_t least(const layer_columns& layer) const noexcept {
        const auto even = static_cast<double>(detail::whole(amount.rows(layer.next_position)));
        return detail::whole(even * floor);
    }
};

/// The heads of a layer, or of all layers, share int(T · (1 − r) · heads [· layers]), whoever has the highest
/// scores (arXiv 2510.13334). All layers must have seen the same number of tokens.
template <eviction::sharing Among>
requires(Among != eviction::sharing::head) struct flat {
    using category = part::budget;
    static constexpr eviction::sharing sharing = Among;
    static constexpr bool is_of_model = Among == eviction::sharing::model;
    static constexpr eviction_scope scope = is_of_model ? eviction_scope::model : eviction_scope::layer;
    eviction::amount amount{};

    [[nodiscard]] std::size_t rows(const layer_columns& layer) const noexcept {
        return detail::whole(amount.rows(layer.next_position) * static_cast<double>(layer.heads.size()) *
                             static_cast<double>(is_of_model ? layer.layers : 1));
    }
};
using layer_flat = flat<eviction::sharing::layer>; ///< DefensiveKV
using global = flat<eviction::sharing::model>;     ///< Layer-DefensiveKV

/// Every head of a layer keeps the same number, which falls linearly from the first layer to the last:
/// PyramidKV (arXiv 2406.02069) as kvpress counts, with the recent window as its window. Where that is
/// infeasible all layers keep the same.
struct pyramid {
    using category = part::budget;
    static constexpr eviction::sharing sharing = eviction::sharing::head;
    static constexpr eviction_scope scope = eviction_scope::model;
    eviction::amount amount{};
    double beta = 20;             ///< the last layer's part is 1/beta of the even one; at least 1
    std::size_t first_layer = 0;  ///< the number of the first layer given, where not all are given at once
    std::size_t model_layers = 0; ///< 0: the layers given are all

    [[nodiscard]] constexpr bool valid() const noexcept { return beta >= 1; }
    [[nodiscard]] std::size_t rows(const layer_columns& layer) const noexcept {
        const auto seen = static_cast<double>(layer.next_position);
        const auto window = static_cast<double>(layer.window);
        const double even = amount.rows(layer.next_position);
        double last = even / beta;
        double first = even * 2 - last;
        if (first >= seen - window) {
            first = seen - window;
            last = even * 2 - first;
        }
        const std::size_t layers = model_layers == 0 ? first_layer + layer.layers : model_layers;
        if (!(seen >= first && first >= last && last >= window) || layers < 2)
            return detail::whole(std::nearbyint(even));
        const double step = (first - last) / static_cast<double>(layers - 1);
        return detail::whole(std::nearbyint(first - static_cast<double>(first_layer + layer.layer) * step));
    }
};

/// Groups of layers, each of one budget that falls arithmetically from group to group: with C = int(T · (1 −
/// r)) the last group gets `layers_per_group` · C / `beta`, the first 2C less that. The recent window is
/// beyond the budget. The first layer of a group decides for the group: WindowKV (arXiv 2503.17922).
struct arithmetic_groups {
    using category = part::budget;
    static constexpr eviction::sharing sharing = eviction::sharing::head;
    static constexpr eviction_scope scope = eviction_scope::model;
    static constexpr bool beyond_guards = true;
    eviction::amount amount{};
    std::size_t layers_per_group = 8;
    std::size_t beta = 14;        ///< at least layers_per_group / 2
    std::size_t first_layer = 0;  ///< the number of the first layer given; where a group begins
    std::size_t model_layers = 0; ///< 0: the layers given are all

    [[nodiscard]] constexpr bool valid() const noexcept {
        return layers_per_group > 0 && 2 * beta >= layers_per_group;
    }
    /// Whether the layer decides for those that follow it.
    [[nodiscard]] bool leads(const layer_columns& layer) const noexcept {
        return layer.layer == 0 || (first_layer + layer.layer) % layers_per_group == 0;
    }
    [[nodiscard]] std::size_t rows(const layer_columns& layer) const noexcept {
        const auto even = static_cast<std::int64_t>(detail::whole(amount.rows(layer.next_position)));
        const std::size_t layers = model_layers == 0 ? first_layer + layer.layers : model_layers;
        const auto groups = static_cast<std::int64_t>((layers + layers_per_group - 1) / layers_per_group);
        const auto group = static_cast<std::int64_t>((first_layer + layer.layer) / layers_per_group);
        if (groups < 2)
            return static_cast<std::size_t>(even);
        const std::int64_t last =
            even * static_cast<std::int64_t>(layers_per_group) / static_cast<std::int64_t>(beta);
        const std::int64_t first = 2 * even - last;
        const std::int64_t step = (first - last) / (groups - 1);
        return static_cast<std::size_t>(group + 1 >= groups ? last : first - group * step);
    }
};

} // namespace budget
} // namespace vtensor::eviction
