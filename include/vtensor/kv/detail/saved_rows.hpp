// SPDX-License-Identifier: Apache-2.0
//
// Rows of a layer to plain memory and back: head after head, of each the keys, then the values. The CPU
// copies.
#pragma once

#include <vtensor/core/units.hpp>
#include <vtensor/kv/layer_cache.hpp>
#include <vtensor/view.hpp>

#include <cstddef>
#include <cstring>

namespace vtensor::kv::detail {

/// Whether every head has the rows of the first `tokens` tokens, in order.
template <layer_cache Layer>
[[nodiscard]] bool is_whole(const Layer& layer, std::size_t tokens) noexcept {
    for (std::size_t head = 0; head < layer.shape().kv_heads; ++head)
        if (layer.rows(head) != tokens || !layer.positions(head).empty())
            return false;
    return true;
}

/// `copy(plain, row, size)` for every row, which lies at `row`; returns where the next layer's begin.
template <class Layer, class Byte, class Copy>
Byte* for_each_row(Layer& layer, Byte* plain, Copy copy) noexcept {
    const auto all = [&](const auto& rows) {
        const std::size_t size = rows.extents[1] * sizeof(typename Layer::value_type);
        for (std::size_t row = 0; row < rows.extents[0]; ++row, plain += size)
            copy(plain, rows[row].data, size);
    };
    for (std::size_t head = 0; head < layer.shape().kv_heads; ++head) {
        all(layer.keys(head));
        all(layer.values(head));
    }
    return plain;
}

template <layer_cache Layer>
[[nodiscard]] std::byte* save_rows(Layer& layer, std::byte* to) noexcept {
    return for_each_row(layer, to, [](std::byte* plain, const auto* row, std::size_t size) {
        std::memcpy(plain, row, size);
    });
}
template <layer_cache Layer>
[[nodiscard]] const std::byte* load_rows(Layer& layer, const std::byte* from) noexcept {
    return for_each_row(layer, from, [](const std::byte* plain, auto* row, std::size_t size) {
        std::memcpy(row, plain, size);
    });
}

} // namespace vtensor::kv::detail
