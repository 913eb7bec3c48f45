// SPDX-License-Identifier: Apache-2.0
//
// How many rows of a layer fill whole pages of both its tensors: a matter of sizes alone.
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

} // namespace vtensor::kv::detail
