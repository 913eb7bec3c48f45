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

#if VTENSOR_ATTENTION_HAS_VECTORS

#include <hwy/cache_control.h>

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

    /// Asks for the cache lines of columns [from, to) of one row, where there are such.
    VTENSOR_ATTENTION_INLINE void prefetch(std::size_t index, std::size_t from, std::size_t to) const {
        if (index >= count)
            return;
        const auto* bytes = reinterpret_cast<const std::byte*>(row(index));
        const std::size_t end = std::min(to, width) * sizeof(T);
        for (std::size_t offset = from * sizeof(T); offset < end; offset += 64)
            hwy::Prefetch(bytes + offset);
    }
};

/// The heads of a tile, padded to what divides a vector.
template <std::size_t Heads>
inline constexpr std::size_t padded_heads = Heads == 3 ? 4 : Heads;

/// The products of `Rows` rows from `first` on with `Heads` queries, lane by lane, as [row][padded head] into
/// `sum` from `Place` on; rows behind the last one repeat it.
template <std::size_t Heads, std::size_t Rows, std::size_t Place, class T>
VTENSOR_ATTENTION_INLINE void multiply_rows(const row_block<T>& keys, std::size_t first, const float* queries,
                                            std::size_t query_stride, std::array<float_vector, lanes>& sum) {
    constexpr std::size_t stride = padded_heads<Heads>;
    std::array<const T*, Rows> row;
    unroll<Rows>([&](auto r) __attribute__((always_inline)) {
        row[r] = keys.row(std::min<std::size_t>(first + r, keys.count - 1));
    });
    unroll<Rows * stride>([&](auto index)
                              __attribute__((always_inline)) { sum[Place + index] = hn::Zero(floats); });
    const auto add = [&](const std::array<float_vector, Rows>& key, std::size_t column)
        __attribute__((always_inline)) {
        unroll<Heads>([&](auto head) __attribute__((always_inline)) {
            const auto query = hn::Load(floats, queries + head * query_stride + column);
            unroll<Rows>([&](auto r) __attribute__((always_inline)) {
                auto& total = sum[Place + r * stride + head];
                total = hn::MulAdd(key[r], query, total);
            });
        });
    };
    std::array<float_vector, Rows> key;
    std::size_t column = 0;
    for (; column + lanes <= keys.width; column += lanes) {
        unroll<Rows>([&](auto r) __attribute__((always_inline)) { key[r] = load(row[r] + column); });
        add(key, column);
    }
    if (column < keys.width) {
        unroll<Rows>([&](auto r) __attribute__((always_inline)) {
            key[r] = load_some(row[r] + column, keys.width - column);
        });
        add(key, column);
    }
}

/// The logits of a block of at most `block_rows` rows, as [row][padded head], up to a whole vector; those
/// behind the last row are −∞. Prefetches `ahead` row by row.
template <std::size_t Heads, class T>
VTENSOR_ATTENTION_INLINE void multiply_keys(const row_block<T>& keys, const row_block<T>& ahead,
                                            const float* queries, std::size_t query_stride, float* logits) {
    constexpr std::size_t stride = padded_heads<Heads>;
    constexpr std::size_t rows = lanes / stride;                 // of one vector of logits
    constexpr std::size_t pass = std::min<std::size_t>(rows, 4); // rows that are read side by side
    for (std::size_t first = 0; first < keys.count; first += rows) {
        for (std::size_t r = 0; r < rows; ++r)
            ahead.prefetch(first + r, 0, ahead.width);
        std::array<float_vector, lanes> sum;
        unroll<rows / pass>([&](auto index) __attribute__((always_inline)) {
            multiply_rows<Heads, pass, index * pass * stride>(keys, first + index * pass, queries,
                                                              query_stride, sum);
        });
        hn::Store(sums(sum), floats, logits + first * stride);
    }
    const std::size_t end = (keys.count * stride + lanes - 1) / lanes * lanes;
    std::fill(logits + keys.count * stride, logits + end, -HUGE_VALF);
}

/// Adds the values of a block, weighted by `weights` as [row][padded head], to the outputs. Prefetches
/// `ahead` row by row.
template <std::size_t Heads, class T>
VTENSOR_ATTENTION_INLINE void add_values(const row_block<T>& values, const row_block<T>& ahead,
                                         const float* weights, const std::array<float*, Heads>& output) {
    constexpr std::size_t stride = padded_heads<Heads>;
    constexpr std::size_t vectors = Heads <= 2 ? 8 : 4; // columns at a time: all sums stay in registers
    const auto add = [&]<std::size_t Vectors>(
        std::size_t column, std::integral_constant<std::size_t, Vectors>) __attribute__((always_inline)) {
        std::array<float_vector, Heads * Vectors> sum;
        unroll<Heads * Vectors>([&](auto index) __attribute__((always_inline)) {
            sum[index] = hn::LoadU(floats, output[index / Vectors] + column + index % Vectors * lanes);
        });
        for (std::size_t r = 0; r < values.count; ++r) {
            ahead.prefetch(r, column, column + Vectors * lanes);
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
    };
    std::size_t column = 0;
    for (; column + vectors * lanes <= values.width; column += vectors * lanes)
        add(column, std::integral_constant<std::size_t, vectors>{});
    for (; column + lanes <= values.width; column += lanes)
        add(column, std::integral_constant<std::size_t, 1>{});
    if (const std::size_t rest = values.width - column; rest != 0)
        for (std::size_t head = 0; head < Heads; ++head) {
            auto sum = load_some(output[head] + column, rest);
            for (std::size_t r = 0; r < values.count; ++r)
                sum = hn::MulAdd(load_some(values.row(r) + column, rest),
                                 hn::Set(floats, weights[r * stride + head]), sum);
            store_some(sum, output[head] + column, rest);
        }
}

} // namespace vtensor::attention::detail::HWY_NAMESPACE

#endif
