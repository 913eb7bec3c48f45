// SPDX-License-Identifier: Apache-2.0
//
// The two matrix products of attention for many queries: a tile of query lines against a block of rows. A
// line is one query of one query head. Keys are transposed and values converted once a block, for all lines
// of the tile; both products then run over small panels of sums that stay in registers.
#pragma once

#include <vtensor/attention/detail/decode.hpp>
#include <vtensor/attention/detail/simd.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

#if VTENSOR_ATTENTION_HAS_VECTORS

namespace vtensor::attention::detail::HWY_NAMESPACE {

/// Vectors of a panel: as many rows (first product) or columns (second product) are computed side by side.
inline constexpr std::size_t panel_vectors = 4;
inline constexpr std::size_t panel_width = panel_vectors * lanes;
/// Lines of a panel: with `panel_vectors` sums each, and what multiplies them, they fill the registers.
inline constexpr std::size_t panel_lines = lanes == 16 ? 6 : 3;

/// Rows of one block, and columns of keys or values that are held at a time.
inline constexpr std::size_t prefill_rows = panel_width;
inline constexpr std::size_t prefill_columns = 128;
static_assert(prefill_columns % panel_width == 0);

/// Lines of a tile.
inline constexpr std::size_t prefill_lines = 12 * panel_lines;

/// Keys as [column][row] or values as [row][column]; behind the last column lie zeros, behind the last row
/// copies of it.
using packed_block = std::array<float, prefill_rows * prefill_columns>;

/// `lanes` columns of one row, zeros behind the row's end.
template <class T>
[[nodiscard]] VTENSOR_ATTENTION_INLINE float_vector load_columns(const row_block<T>& rows, std::size_t row,
                                                                 std::size_t column) {
    const T* from = rows.row(std::min(row, rows.count - 1)) + column;
    if (column + lanes <= rows.width)
        return load(from);
    return column < rows.width ? load_some(from, rows.width - column) : hn::Zero(floats);
}

/// Columns [first, first + columns) of a block of keys as [column][row].
template <class T>
void pack_keys(const row_block<T>& keys, std::size_t first, std::size_t columns,
               packed_block& packed) noexcept {
    for (std::size_t row = 0; row < prefill_rows; row += lanes)
        for (std::size_t column = 0; column < columns; column += lanes) {
            std::array<float_vector, lanes> square;
            unroll<lanes>([&](auto r) __attribute__((always_inline)) {
                square[r] = load_columns(keys, row + r, first + column);
            });
            transpose(square);
            unroll<lanes>([&](auto c) __attribute__((always_inline)) {
                hn::Store(square[c], floats, packed.data() + (column + c) * prefill_rows + row);
            });
        }
}

/// Columns [first, first + columns) of a block of values as [row][prefill_columns].
template <class T>
void pack_values(const row_block<T>& values, std::size_t first, std::size_t columns,
                 packed_block& packed) noexcept {
    for (std::size_t row = 0; row < values.count; ++row)
        for (std::size_t column = 0; column < columns; column += lanes)
            hn::Store(load_columns(values, row, first + column), floats,
                      packed.data() + row * prefill_columns + column);
}

/// sum[line][·] += Σ over `depth` of factor[line][i] · packed[i][·], for `Lines` lines and one panel of
/// columns. `packed` has `packed_stride` floats a row; a line's sums are at `sums(line)`, its factors at
/// `factors(line)`.
template <std::size_t Lines, class Factors, class Sums>
VTENSOR_ATTENTION_INLINE void multiply_panel(std::size_t depth, const float* packed,
                                             std::size_t packed_stride, Factors factors, Sums sums_of) {
    std::array<float_vector, Lines * panel_vectors> sum;
    std::array<const float*, Lines> factor;
    unroll<Lines>([&](auto line) __attribute__((always_inline)) {
        factor[line] = factors(line);
        unroll<panel_vectors>([&](auto v) __attribute__((always_inline)) {
            sum[line * panel_vectors + v] = hn::LoadU(floats, sums_of(line) + v * lanes);
        });
    });
    for (std::size_t i = 0; i < depth; ++i, packed += packed_stride) {
        std::array<float_vector, panel_vectors> other;
        unroll<panel_vectors>([&](auto v) __attribute__((always_inline)) {
            other[v] = hn::Load(floats, packed + v * lanes);
        });
        unroll<Lines>([&](auto line) __attribute__((always_inline)) {
            const auto by = hn::Set(floats, factor[line][i]);
            unroll<panel_vectors>([&](auto v) __attribute__((always_inline)) {
                auto& total = sum[line * panel_vectors + v];
                total = hn::MulAdd(other[v], by, total);
            });
        });
    }
    unroll<Lines>([&](auto line) __attribute__((always_inline)) {
        unroll<panel_vectors>([&](auto v) __attribute__((always_inline)) {
            hn::StoreU(sum[line * panel_vectors + v], floats, sums_of(line) + v * lanes);
        });
    });
}

/// `multiply_panel` over all lines of a tile: `factors(line)` and `sums_of(line)` as there.
template <class Factors, class Sums>
VTENSOR_ATTENTION_INLINE void multiply_lines(std::size_t lines, std::size_t depth, const float* packed,
                                             std::size_t packed_stride, Factors factors, Sums sums_of) {
    std::size_t line = 0;
    const auto shifted = [&](auto of) __attribute__((always_inline)) {
        return [ of, &line ](std::size_t index) __attribute__((always_inline)) { return of(line + index); };
    };
    for (; line + panel_lines <= lines; line += panel_lines)
        multiply_panel<panel_lines>(depth, packed, packed_stride, shifted(factors), shifted(sums_of));
    for (; line < lines; ++line)
        multiply_panel<1>(depth, packed, packed_stride, shifted(factors), shifted(sums_of));
}

} // namespace vtensor::attention::detail::HWY_NAMESPACE

#endif
