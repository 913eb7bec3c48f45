// SPDX-License-Identifier: Apache-2.0
//
// The two inner products of attention for one query of a few query heads: rows of keys against the queries,
// and weights against rows of values. Each row is read once, converted in registers and used for all heads of
// the tile. Memory is asked for ahead of its use: the values of a block while its keys are read, the keys of
// the next block while its values are.
#pragma once

#include <vtensor/attention/detail/simd.hpp>
#include <vtensor/attention/detail/softmax_state.hpp>
#include <vtensor/attention/problem.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#if VTENSOR_ATTENTION_HAS_VECTORS

namespace vtensor::attention::detail::HWY_NAMESPACE {

/// Rows of keys or of values: `count` rows of `width` elements, `stride` elements apart.
template <class T>
struct row_block {
    const T* data = nullptr;
    std::ptrdiff_t stride = 0;
    std::size_t count = 0;
    std::size_t width = 0;

    [[nodiscard]] VTENSOR_ATTENTION_INLINE const T* row(std::size_t index) const {
        return data + static_cast<std::ptrdiff_t>(index) * stride;
    }
};

/// The heads of a tile, padded to what divides a vector.
template <std::size_t Heads>
inline constexpr std::size_t padded_heads = Heads == 3 ? 4 : Heads;

/// What is read next, asked for while something else is computed: row r of `rows` while row r of another
/// block is worked on. The processor's own prefetching does not run far enough ahead of this much arithmetic.
template <class T>
class read_ahead {
  public:
    explicit read_ahead(const row_block<T>& rows) noexcept : rows_{rows} {}

    /// The row to follow while row `index` is worked on.
    [[nodiscard]] VTENSOR_ATTENTION_INLINE const T* row(std::size_t index) const { return rows_.row(index); }

    /// Asks for `Elements` elements from `column` on.
    template <std::size_t Elements>
    static VTENSOR_ATTENTION_INLINE void ask(const T* row, std::size_t column) {
        unroll<(Elements * sizeof(T) + line - 1) / line>([&](auto index) __attribute__((always_inline)) {
            __builtin_prefetch(row + column + index * (line / sizeof(T)), 0, first_level);
        });
    }

  private:
    static constexpr std::size_t line = 64; // bytes
    static constexpr int first_level = 3;   // as __builtin_prefetch counts

    row_block<T> rows_;
};

/// All rows of a block, to be gone through.
struct every_row {
    std::size_t count = 0;
    [[nodiscard]] VTENSOR_ATTENTION_INLINE std::size_t operator[](std::size_t index) const { return index; }
};

/// Some rows of a block, by their numbers in it. The others may hold anything.
struct row_list {
    std::size_t count = 0;
    std::array<std::uint8_t, block_rows> rows{};
    [[nodiscard]] VTENSOR_ATTENTION_INLINE std::size_t operator[](std::size_t index) const {
        return rows[index];
    }
};

/// The products of `Rows` rows from `first` on with `Heads` queries, lane by lane, as [row][padded head] into
/// `sum` from `Place` on; rows behind the last one repeat it.
template <std::size_t Heads, std::size_t Rows, std::size_t Place, class T>
VTENSOR_ATTENTION_INLINE void multiply_rows(const row_block<T>& keys, std::size_t first,
                                            const read_ahead<T>& ahead, const float* queries,
                                            std::size_t query_stride, std::array<float_vector, lanes>& sum) {
    constexpr std::size_t stride = padded_heads<Heads>;
    constexpr std::size_t vectors = sizeof(T) == 2 ? 2 : 1; // a cache line of keys
    std::array<const T*, Rows> row;
    std::array<const T*, Rows> next;
    unroll<Rows>([&](auto r) __attribute__((always_inline)) {
        row[r] = keys.row(std::min<std::size_t>(first + r, keys.count - 1));
        next[r] = ahead.row(first + r);
    });
    unroll<Rows * stride>([&](auto index)
                              __attribute__((always_inline)) { sum[Place + index] = hn::Zero(floats); });
    const auto add = [&](const std::array<float_vector, Rows>& key, std::size_t column)
        __attribute__((always_inline)) {
        unroll<Heads>([&](auto head) __attribute__((always_inline)) {
            const auto query = in_register(hn::Load(floats, queries + head * query_stride + column));
            unroll<Rows>([&](auto r) __attribute__((always_inline)) {
                auto& total = sum[Place + r * stride + head];
                total = hn::MulAdd(key[r], query, total);
            });
        });
    };
    std::array<float_vector, Rows> key;
    std::size_t column = 0;
    for (; column + vectors * lanes <= keys.width; column += vectors * lanes) {
        unroll<Rows>([&](auto r) __attribute__((always_inline)) {
            ahead.template ask<vectors * lanes>(next[r], column);
        });
        unroll<vectors>([&](auto v) __attribute__((always_inline)) {
            unroll<Rows>([&](auto r)
                             __attribute__((always_inline)) { key[r] = load(row[r] + column + v * lanes); });
            add(key, column + v * lanes);
        });
    }
    for (; column < keys.width; column += lanes) {
        const std::size_t count = std::min(lanes, keys.width - column);
        unroll<Rows>([&](auto r)
                         __attribute__((always_inline)) { key[r] = load_some(row[r] + column, count); });
        add(key, column);
    }
}

/// The logits of a block of at most `block_rows` rows, as [row][padded head], up to a whole vector; those
/// behind the last row are −∞. Follows `ahead` row by row.
template <std::size_t Heads, class T>
VTENSOR_ATTENTION_INLINE void multiply_keys(const row_block<T>& keys, const read_ahead<T>& ahead,
                                            const float* queries, std::size_t query_stride, float* logits) {
    constexpr std::size_t stride = padded_heads<Heads>;
    constexpr std::size_t rows = lanes / stride;                 // of one vector of logits
    constexpr std::size_t pass = std::min<std::size_t>(rows, 4); // rows that are read side by side
    for (std::size_t first = 0; first < keys.count; first += rows) {
        std::array<float_vector, lanes> sum;
        unroll<rows / pass>([&](auto index) __attribute__((always_inline)) {
            multiply_rows<Heads, pass, index * pass * stride>(keys, first + index * pass, ahead, queries,
                                                              query_stride, sum);
        });
        hn::Store(sums(sum), floats, logits + first * stride);
    }
    const std::size_t end = (keys.count * stride + lanes - 1) / lanes * lanes;
    std::fill(logits + keys.count * stride, logits + end, -HUGE_VALF);
}

/// Adds `Vectors` vectors of columns from `column` on of the `rows` of a block of values, weighted by
/// `weights` as [row][padded head], to the outputs. Follows `ahead` row by row.
template <std::size_t Heads, std::size_t Vectors, class T, class Rows>
VTENSOR_ATTENTION_INLINE void add_columns(const row_block<T>& values, const Rows& rows,
                                          const read_ahead<T>& ahead, const float* weights,
                                          const std::array<float*, Heads>& output, std::size_t column) {
    constexpr std::size_t stride = padded_heads<Heads>;
    std::array<float_vector, Heads * Vectors> sum;
    unroll<Heads * Vectors>([&](auto index) __attribute__((always_inline)) {
        sum[index] = hn::LoadU(floats, output[index / Vectors] + column + index % Vectors * lanes);
    });
    [[maybe_unused]] std::size_t asked = 0;
    for (std::size_t index = 0; index < rows.count; ++index) {
        const std::size_t r = rows[index];
        if constexpr (std::is_same_v<Rows, every_row>)
            ahead.template ask<Vectors * lanes>(ahead.row(r), column);
        else
            for (; asked <= r; ++asked)
                ahead.template ask<Vectors * lanes>(ahead.row(asked), column);
        const T* row = values.row(r) + column;
        std::array<float_vector, Vectors> value;
        unroll<Vectors>([&](auto v) __attribute__((always_inline)) { value[v] = load(row + v * lanes); });
        unroll<Heads>([&](auto head) __attribute__((always_inline)) {
            const auto weight = hn::Set(floats, weights[r * stride + head]);
            unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
                sum[head * Vectors + v] = hn::MulAdd(value[v], weight, sum[head * Vectors + v]);
            });
        });
    }
    unroll<Heads * Vectors>([&](auto index) __attribute__((always_inline)) {
        hn::StoreU(sum[index], floats, output[index / Vectors] + column + index % Vectors * lanes);
    });
}

/// Adds the values of the `rows` of a block, weighted by `weights` as [row][padded head], to the outputs.
/// Follows `ahead` row by row.
template <std::size_t Heads, class T, class Rows>
VTENSOR_ATTENTION_INLINE void add_values(const row_block<T>& values, const Rows& rows,
                                         const read_ahead<T>& ahead, const float* weights,
                                         const std::array<float*, Heads>& output) {
    constexpr std::size_t stride = padded_heads<Heads>;
    constexpr std::size_t vectors = Heads <= 2 ? 8 : 4; // columns at a time: all sums stay in registers
    std::size_t column = 0;
    for (; column + vectors * lanes <= values.width; column += vectors * lanes)
        add_columns<Heads, vectors>(values, rows, ahead, weights, output, column);
    for (; column + lanes <= values.width; column += lanes)
        add_columns<Heads, 1>(values, rows, ahead, weights, output, column);
    if (const std::size_t rest = values.width - column; rest != 0)
        for (std::size_t head = 0; head < Heads; ++head) {
            auto sum = load_some(output[head] + column, rest);
            for (std::size_t index = 0; index < rows.count; ++index)
                sum = hn::MulAdd(load_some(values.row(rows[index]) + column, rest),
                                 hn::Set(floats, weights[rows[index] * stride + head]), sum);
            store_some(sum, output[head] + column, rest);
        }
}

} // namespace vtensor::attention::detail::HWY_NAMESPACE

#endif
