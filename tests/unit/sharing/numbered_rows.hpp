// SPDX-License-Identifier: Apache-2.0
//
// Rows whose every element says which one it is, and how many pages they take.
#pragma once

#include <vtensor/core/units.hpp>

#include <cstddef>

namespace vtensor::testing {

inline constexpr std::size_t row_ints = 100; ///< 400 bytes: rows cross pages
inline constexpr bytes page = 4_KiB;

[[nodiscard]] constexpr int value(std::size_t row, std::size_t column, int salt) noexcept {
    return static_cast<int>(row * 1000 + column) + salt;
}
/// The rows from `first` on.
template <class Tensor>
void fill(Tensor& into, std::size_t first, int salt) {
    const auto view = into.view();
    for (std::size_t row = first; row < into.rows(); ++row) {
        for (std::size_t column = 0; column < row_ints; ++column)
            view(row, column) = value(row, column, salt);
    }
}
/// Of the rows [first, last), the elements that `fill` would not have written.
template <class Tensor>
[[nodiscard]] std::size_t wrong(const Tensor& held, std::size_t first, std::size_t last, int salt) {
    const auto view = held.view();
    std::size_t count = 0;
    for (std::size_t row = first; row < last; ++row) {
        for (std::size_t column = 0; column < row_ints; ++column)
            count += view(row, column) != value(row, column, salt) ? 1u : 0u;
    }
    return count;
}
[[nodiscard]] constexpr std::size_t pages_of(std::size_t rows) noexcept {
    return pages_for(bytes{4 * row_ints * rows}, page).count();
}
[[nodiscard]] constexpr std::size_t whole_pages_of(std::size_t rows) noexcept {
    return bytes{4 * row_ints * rows} / page;
}

} // namespace vtensor::testing
