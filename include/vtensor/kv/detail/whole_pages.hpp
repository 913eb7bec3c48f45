// SPDX-License-Identifier: Apache-2.0
//
// Rows of a layer and the pages that they take: a matter of sizes alone.
#pragma once

#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/core/units.hpp>
#include <vtensor/kv/layer_shape.hpp>
#include <vtensor/tensor/together.hpp>

#include <cstddef>

namespace vtensor::kv::detail {

/// The smallest such number, where `heads` heads lie in one row of a tensor; 0 where there is none to count.
template <class T>
[[nodiscard]] constexpr std::size_t rows_of_pages(const layer_shape& shape, std::size_t heads,
                                                  bytes page) noexcept {
    const auto rows = [&](std::size_t width) {
        return defrag::rows_of_block(bytes{heads * width * sizeof(T)}, page);
    };
    return vtensor::detail::common_block(rows(shape.key_width), rows(shape.value_width));
}

/// What so many rows of both its tensors take, where `heads` heads lie in one row of a tensor.
template <class T>
[[nodiscard]] constexpr bytes pages_of_rows(const layer_shape& shape, std::size_t heads, bytes page,
                                            std::size_t rows) noexcept {
    const auto pages = [&](std::size_t width) {
        return round_up(bytes{heads * width * sizeof(T)} * rows, page);
    };
    return pages(shape.key_width) + pages(shape.value_width);
}

} // namespace vtensor::kv::detail
