// SPDX-License-Identifier: Apache-2.0
//
// Memory taken ahead of rows, and given back as it was: the steps of which the growth of a layer is made.
#pragma once

#include <vtensor/core/error.hpp>
#include <vtensor/core/units.hpp>

#include <algorithm>
#include <cstddef>

namespace vtensor::kv::detail {

/// Unmaps what lies beyond `mapped` bytes. A passing failure is met by a second try; after another the pages
/// stay, counted, and serve the next growth.
template <class Tensor>
void give_back(Tensor& tensor, bytes mapped) noexcept {
    if (!tensor.try_trim(mapped))
        static_cast<void>(tensor.try_trim(mapped));
}

/// What a K and a V tensor need for rows to come, and what they had before.
struct growth_plan {
    std::size_t rows = 0; ///< of each tensor
    bytes keys{};
    bytes values{};
};

/// Both have memory for the planned rows; where it fails, `undo_map_both` takes back what was mapped.
template <class Tensor>
[[nodiscard]] status map_both(Tensor& keys, Tensor& values, const growth_plan& plan) noexcept {
    const status outcome = keys.try_map(plan.rows);
    return outcome ? values.try_map(plan.rows) : outcome;
}
template <class Tensor>
void undo_map_both(Tensor& keys, Tensor& values, const growth_plan& plan) noexcept {
    give_back(values, plan.values);
    give_back(keys, plan.keys);
}
/// What a growth policy mapped beyond the plan goes back.
template <class Tensor>
void drop_surplus_of_both(Tensor& keys, Tensor& values, const growth_plan& plan) noexcept {
    static_cast<void>(values.try_trim(std::max(plan.values, values.row_bytes() * plan.rows)));
    static_cast<void>(keys.try_trim(std::max(plan.keys, keys.row_bytes() * plan.rows)));
}

/// Memory and book-keeping for `count` more rows of every head, or nothing changed.
template <class Layer>
[[nodiscard]] status prepare_layer(Layer& layer, std::size_t count) noexcept {
    if (const status outcome = layer.try_plan(count); !outcome)
        return outcome;
    typename Layer::steps_type steps;
    if (layer.must_own(count)) {
        if (const status outcome = layer.try_own(count, steps); !outcome)
            return outcome;
    }
    const status outcome = layer.try_map();
    if (outcome)
        steps.finish();
    else
        layer.undo_map();
    return outcome;
}
template <class Layer>
[[nodiscard]] status append_to_layer(Layer& layer, std::size_t count) noexcept {
    const status outcome = prepare_layer(layer, count);
    if (outcome)
        layer.add_prepared(count);
    return outcome;
}

/// Bytes of the last page that rows occupy which they leave free.
template <class Tensor>
[[nodiscard]] bytes part_page(const Tensor& tensor) noexcept {
    const auto figures = tensor.stats();
    return figures.used == bytes{0} ? bytes{0} : round_up(figures.used, figures.page) - figures.used;
}
/// Bytes of the whole pages behind the last row that no other tensor holds. O(pages shared behind it).
template <class Tensor>
[[nodiscard]] bytes pages_ahead(const Tensor& tensor) noexcept {
    const auto figures = tensor.stats();
    const bytes needed = std::min(figures.mapped, round_up(figures.used, figures.page));
    return figures.mapped - needed - tensor.shared_bytes(figures.rows);
}

} // namespace vtensor::kv::detail
