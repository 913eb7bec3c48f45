// SPDX-License-Identifier: Apache-2.0
//
// The sizes of one sequence's keys and values over all layers, and what a cache of them says of itself.
// Plain values.
#pragma once

#include <vtensor/core/units.hpp>
#include <vtensor/kv/layer_shape.hpp>

#include <cstddef>

namespace vtensor::kv {

/// What the model dictates.
struct model_shape {
    std::size_t layers = 0;
    layer_shape layer{}; ///< all layers alike

    [[nodiscard]] constexpr bool is_empty() const noexcept { return layers == 0 || layer.is_empty(); }
    friend constexpr bool operator==(const model_shape&, const model_shape&) noexcept = default;
};

/// A sequence's cache in figures. `used` + `part_pages` + `ahead` ≤ `mapped` ≤ `reserved`.
struct cache_figures {
    std::size_t tokens = 0;    ///< of the sequence, those included whose rows were evicted
    std::size_t live_rows = 0; ///< rows that a query can see, of all heads of all layers
    bytes used{};              ///< keys and values of the live rows
    bytes mapped{};            ///< physical memory, each page counted wherever it is mapped
    bytes reserved{};          ///< addresses
    bytes shared{};            ///< of `mapped`: memory that other sequences hold too
    bytes part_pages{};        ///< what rows leave free of the last page of each tensor
    bytes ahead{};             ///< of `mapped`: whole pages behind the last row of each tensor, unless shared
};

} // namespace vtensor::kv
