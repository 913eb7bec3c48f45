// SPDX-License-Identifier: Apache-2.0
//
// Views of rows that lie behind one another, in the rank that is asked for.
#pragma once

#include <vtensor/core/error.hpp>
#include <vtensor/row_shape.hpp>
#include <vtensor/view.hpp>

#include <cstddef>

namespace vtensor::detail {

/// [rows, elements of a row] for `Rank` 2; for the rank of the shape plus one, [rows, shape…]; anything else
/// is refused with `invalid_argument`.
template <std::size_t Rank, class T>
[[nodiscard]] result<tensor_view<T, Rank>> view_of_rows(T* data, std::size_t rows,
                                                        const row_shape& shape) noexcept {
    if constexpr (Rank == 2) {
        return make_view(data, rows, shape.size());
    } else {
        if (Rank != shape.rank() + 1)
            return error{errc::invalid_argument, verb::view, 0, bytes{0}};
        tensor_view<T, Rank> view;
        view.data = data;
        view.extents[0] = rows;
        view.strides[0] = static_cast<std::ptrdiff_t>(shape.size());
        for (std::size_t dimension = 1; dimension < Rank; ++dimension) {
            view.extents[dimension] = shape[dimension - 1];
            view.strides[dimension] =
                view.strides[dimension - 1] / static_cast<std::ptrdiff_t>(shape[dimension - 1]);
        }
        return view;
    }
}

} // namespace vtensor::detail
