// SPDX-License-Identifier: Apache-2.0
//
// The sizes of one layer's keys and values. A small value.
#pragma once

#include <vtensor/core/units.hpp>

#include <cstddef>

namespace vtensor::kv {

/// What the model dictates for one layer of one sequence.
struct layer_shape {
    std::size_t kv_heads = 0;
    std::size_t key_width = 0;   ///< elements of one key
    std::size_t value_width = 0; ///< elements of one value
    std::size_t max_rows = 0;    ///< the most rows a head may have at once; addresses are reserved for them

    [[nodiscard]] constexpr bool is_empty() const noexcept {
        return kv_heads == 0 || key_width == 0 || value_width == 0 || max_rows == 0;
    }
    friend constexpr bool operator==(const layer_shape&, const layer_shape&) noexcept = default;
};

/// A layer in figures. `used` ≤ `mapped` ≤ `reserved`.
struct layer_figures {
    std::size_t rows = 0;      ///< slots of all heads, dead ones included
    std::size_t live_rows = 0; ///< rows that a query can see, of all heads
    bytes used{};              ///< keys and values of the live rows
    bytes mapped{};            ///< physical memory
    bytes reserved{};          ///< addresses
    bytes shared{};            ///< of `mapped`: memory that other tensors hold too
    bytes part_pages{};        ///< of `mapped`: what rows leave free of the last page of each tensor
    bytes ahead{};             ///< of `mapped`: whole pages behind the last row of each tensor, unless shared
};

} // namespace vtensor::kv
