// SPDX-License-Identifier: Apache-2.0
//
// How much of every value leaves the layer: the L1 norms of value × output projection. A matrix product whose
// result is never stored. Lanes run over the rows of values and registers over columns of the projection, so
// that the magnitudes add up lane by lane and nothing is summed across a vector.
//
// A task packs up to 256 rows of values once, transposed, and then a few dozen columns of the projection at a
// time: panels of values stay in the first-level cache while those pass by. The scratch lies on the stack.
#pragma once

#include <vtensor/attention/detail/decode_task.hpp>
#include <vtensor/attention/detail/evidence_scalar.hpp>
#include <vtensor/attention/detail/prefill.hpp>
#include <vtensor/attention/detail/simd.hpp>
#include <vtensor/attention/detail/visibility.hpp>
#include <vtensor/attention/problem.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

#if VTENSOR_ATTENTION_HAS_VECTORS

namespace vtensor::attention::detail::HWY_NAMESPACE {

/// Floats of packed values (96 KiB) and of the packed projection (24 KiB).
inline constexpr std::size_t packed_value_floats = 24576;
inline constexpr std::size_t packed_weight_floats = 6144;

/// Rows of values that one task takes; 0 where not even one panel of this width fits.
[[nodiscard]] constexpr std::size_t rows_in_norm_task(std::size_t width) noexcept {
    if (width > packed_weight_floats / panel_lines)
        return 0;
    return std::min<std::size_t>(packed_value_floats / padded_width(width) / panel_width * panel_width, 256);
}

/// Rows as columns: to[column][row] of `rows` × `columns` elements; `row_at(r)` is where row r begins. Whole
/// vectors of rows are written, repeating the last row.
template <class RowAt>
VTENSOR_ATTENTION_INLINE void pack_columns(std::size_t rows, std::size_t columns, RowAt row_at, float* to,
                                           std::size_t stride) {
    for (std::size_t row = 0; row < rows; row += lanes)
        for (std::size_t column = 0; column < columns; column += lanes) {
            const std::size_t count = std::min(lanes, columns - column);
            std::array<float_vector, lanes> square;
            unroll<lanes>([&](auto r) __attribute__((always_inline)) {
                const auto* from = row_at(std::min<std::size_t>(row + r, rows - 1)) + column;
                square[r] = count == lanes ? load(from) : load_some(from, count);
            });
            transpose(square);
            unroll<lanes>([&](auto c) __attribute__((always_inline)) {
                if (c < count)
                    hn::Store(square[c], floats, to + (column + c) * stride + row);
            });
        }
}

/// The norms of some rows of one KV head.
template <class T, class Weight>
class output_norm_task {
  public:
    /// The query heads [first_head, first_head + heads) of `weights` are those of `head`.
    output_norm_task(const kv_head<T>& head, const tensor_view<const Weight, 3>& weights,
                     std::size_t first_head, std::size_t heads) noexcept
        : head_{head}, weights_{weights}, first_head_{first_head}, heads_{heads} {}

    /// Rows [first, last), at most `rows_in_norm_task`, into `norms[row]`.
    void run(std::size_t first, std::size_t last, float* norms) noexcept {
        std::fill(norms + first, norms + last, 0.0f);
        count_ = 0;
        for (std::size_t row = first; row < last; ++row)
            if (!is_dead(head_, row))
                rows_[count_++] = row;
        if (count_ == 0)
            return;
        pack_values();
        total_.fill(0);
        const std::size_t lines = packed_weight_floats / stride_ / panel_lines * panel_lines;
        for (std::size_t head = first_head_; head < first_head_ + heads_; ++head)
            for (std::size_t output = 0; output < weights_.extents[2]; output += lines)
                add_outputs(head, output, std::min(lines, weights_.extents[2] - output));
        for (std::size_t index = 0; index < count_; ++index)
            norms[rows_[index]] = total_[index] / static_cast<float>(heads_);
    }

  private:
    /// Panels of live rows as [column][row]; the last panel repeats the last row.
    void pack_values() noexcept {
        for (std::size_t row = 0; row < count_; row += panel_width)
            pack_columns(
                panel_width, width_,
                [&](std::size_t r) { return value_of(head_, rows_[std::min(row + r, count_ - 1)]); },
                values_.data() + row * stride_, panel_width);
    }

    /// Columns [output, output + count) of one query head as lines of the value width; lines of zeros fill
    /// the last tile.
    void pack_weights(std::size_t head, std::size_t output, std::size_t count) noexcept {
        const auto* from = &weights_(head, 0, output);
        float* to = packed_.data();
        if (weights_.strides[1] == 1) {
            for (std::size_t line = 0; line < count; ++line, from += weights_.strides[2])
                prepare_query(from, width_, 1.0f, to + line * stride_);
        } else if (weights_.strides[2] == 1) {
            pack_columns(
                width_, count,
                [&](std::size_t column) {
                    return from + static_cast<std::ptrdiff_t>(column) * weights_.strides[1];
                },
                to, stride_);
        } else {
            for (std::size_t line = 0; line < count; ++line)
                for (std::size_t column = 0; column < width_; ++column)
                    to[line * stride_ + column] = to_float(weights_(head, column, output + line));
        }
        const std::size_t end = (count + panel_lines - 1) / panel_lines * panel_lines;
        std::fill(to + count * stride_, to + end * stride_, 0.0f);
    }

    void add_outputs(std::size_t head, std::size_t output, std::size_t count) noexcept {
        pack_weights(head, output, count);
        for (std::size_t row = 0; row < count_; row += panel_width) {
            std::array<float_vector, panel_vectors> sum;
            unroll<panel_vectors>([&](auto v) __attribute__((always_inline)) { sum[v] = hn::Zero(floats); });
            for (std::size_t line = 0; line < count; line += panel_lines)
                add_magnitudes(values_.data() + row * stride_, packed_.data() + line * stride_, sum);
            unroll<panel_vectors>([&](auto v) __attribute__((always_inline)) {
                float* to = total_.data() + row + v * lanes;
                hn::Store(hn::Add(hn::Load(floats, to), sum[v]), floats, to);
            });
        }
    }

    /// The products of one panel of values with a tile of lines, in registers, and their magnitudes.
    VTENSOR_ATTENTION_INLINE void add_magnitudes(const float* values, const float* lines,
                                                 std::array<float_vector, panel_vectors>& sum) const {
        std::array<float_vector, panel_lines * panel_vectors> product;
        unroll<panel_lines * panel_vectors>([&](auto index) __attribute__((always_inline)) {
            product[index] = hn::Zero(floats);
        });
        for (std::size_t column = 0; column < width_; ++column, values += panel_width, ++lines) {
            std::array<float_vector, panel_vectors> value;
            unroll<panel_vectors>([&](auto v) __attribute__((always_inline)) {
                value[v] = in_register(hn::Load(floats, values + v * lanes));
            });
            unroll<panel_lines>([&](auto line) __attribute__((always_inline)) {
                const auto by = in_register(hn::Set(floats, lines[line * stride_]));
                unroll<panel_vectors>([&](auto v) __attribute__((always_inline)) {
                    auto& total = product[line * panel_vectors + v];
                    total = hn::MulAdd(value[v], by, total);
                });
            });
        }
        unroll<panel_lines * panel_vectors>([&](auto index) __attribute__((always_inline)) {
            auto& total = sum[index % panel_vectors];
            total = hn::Add(total, hn::Abs(product[index]));
        });
    }

    kv_head<T> head_;
    tensor_view<const Weight, 3> weights_;
    std::size_t first_head_;
    std::size_t heads_;
    std::size_t width_ = weights_.extents[1];
    std::size_t stride_ =
        padded_width(width_); // floats from one packed line, or panel of one row, to the next
    std::size_t count_ = 0;   // live rows
    std::array<std::size_t, 256> rows_;
    alignas(64) std::array<float, 256> total_;
    alignas(64) std::array<float, packed_value_floats> values_;
    alignas(64) std::array<float, packed_weight_floats> packed_;
};

} // namespace vtensor::attention::detail::HWY_NAMESPACE

#endif
