// SPDX-License-Identifier: Apache-2.0
//
// Evidence that one pass over rows gives: norms of keys, their likeness to their mean, sums of probabilities.
// Sums run in vectors, long ones in two levels, so that they lose no more digits than a short one.
#pragma once

#include <vtensor/attention/detail/evidence_scalar.hpp>
#include <vtensor/attention/detail/simd.hpp>
#include <vtensor/attention/detail/visibility.hpp>
#include <vtensor/attention/problem.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#if VTENSOR_ATTENTION_HAS_VECTORS

namespace vtensor::attention::detail::HWY_NAMESPACE {

/// The sum of what `add(column, count, sum)` adds to the lanes of `sum` for the `count` ≤ `lanes` columns
/// from `column` on, over all of `width`.
template <class Add>
[[nodiscard]] VTENSOR_ATTENTION_INLINE float sum_columns(std::size_t width, Add add) {
    std::array<float_vector, 4> sum;
    unroll<4>([&](auto v) __attribute__((always_inline)) { sum[v] = hn::Zero(floats); });
    std::size_t column = 0;
    for (; column + 4 * lanes <= width; column += 4 * lanes)
        unroll<4>([&](auto v) __attribute__((always_inline)) { add(column + v * lanes, lanes, sum[v]); });
    for (; column < width; column += lanes)
        add(column, std::min(lanes, width - column), sum[0]);
    return hn::GetLane(hn::SumOfLanes(floats, hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]))));
}

/// `count` ≤ `lanes` elements, zeros behind them.
template <class T>
[[nodiscard]] VTENSOR_ATTENTION_INLINE float_vector load_up_to(const T* from, std::size_t count) {
    return count == lanes ? load(from) : load_some(from, count);
}

template <class T>
[[nodiscard]] VTENSOR_ATTENTION_INLINE float length(const T* row, std::size_t width) {
    return std::sqrt(sum_columns(
        width, [&](std::size_t column, std::size_t count, float_vector & sum) __attribute__((always_inline)) {
            const auto part = load_up_to(row + column, count);
            sum = hn::MulAdd(part, part, sum);
        }));
}

template <class T>
[[nodiscard]] VTENSOR_ATTENTION_INLINE float inverse_length(const T* row, std::size_t width) {
    const float norm = length(row, width);
    return norm == 0 ? 0 : 1 / norm;
}

template <class T>
[[nodiscard]] VTENSOR_ATTENTION_INLINE float dot(const T* row, const float* other, std::size_t width) {
    return sum_columns(
        width, [&](std::size_t column, std::size_t count, float_vector & sum) __attribute__((always_inline)) {
            sum = hn::MulAdd(load_up_to(row + column, count), load_up_to(other + column, count), sum);
        });
}

/// `key_similarity` of one head: the sum of the directions, some columns at a time, and the products with it.
template <class T>
class similarity_task {
  public:
    similarity_task(const kv_head<T>& head, std::size_t width) noexcept : head_{head}, width_{width} {}

    void run(float* similarity) noexcept {
        std::fill_n(similarity, head_.rows, 0.0f);
        float squares = 0;
        for (std::size_t first = 0; first < width_; first += sum_.size()) {
            const std::size_t columns = std::min(sum_.size(), width_ - first);
            add_directions(first, columns);
            squares += dot(sum_.data(), sum_.data(), columns);
            for (std::size_t row = 0; row < head_.rows; ++row)
                if (!is_dead(head_, row))
                    similarity[row] += dot(key_of(head_, row) + first, sum_.data(), columns);
        }
        const float factor = squares == 0 ? 0 : 1 / std::sqrt(squares);
        for (std::size_t row = 0; row < head_.rows; ++row)
            if (!is_dead(head_, row))
                similarity[row] *= inverse_length(key_of(head_, row), width_) * factor;
    }

  private:
    static constexpr std::size_t block = 64; // rows whose directions are summed before the sum grows by them

    void add_directions(std::size_t first, std::size_t columns) noexcept {
        std::fill_n(sum_.data(), columns, 0.0f);
        for (std::size_t row = 0; row < head_.rows;) {
            std::size_t count = 0;
            for (; row < head_.rows && count < block; ++row)
                if (!is_dead(head_, row)) {
                    factor_[count] = inverse_length(key_of(head_, row), width_);
                    from_[count++] = key_of(head_, row) + first;
                }
            std::size_t column = 0;
            for (; column + 4 * lanes <= columns; column += 4 * lanes)
                add_block<4>(count, column, lanes);
            for (; column < columns; column += lanes)
                add_block<1>(count, column, std::min(lanes, columns - column));
        }
    }

    template <std::size_t Vectors>
    VTENSOR_ATTENTION_INLINE void add_block(std::size_t count, std::size_t column, std::size_t elements) {
        std::array<float_vector, Vectors> sum;
        unroll<Vectors>([&](auto v) __attribute__((always_inline)) { sum[v] = hn::Zero(floats); });
        for (std::size_t row = 0; row < count; ++row)
            unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
                sum[v] = hn::MulAdd(load_up_to(from_[row] + column + v * lanes, elements),
                                    hn::Set(floats, factor_[row]), sum[v]);
            });
        unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
            float* to = sum_.data() + column + v * lanes;
            hn::Store(hn::Add(hn::Load(floats, to), sum[v]), floats, to);
        });
    }

    kv_head<T> head_;
    std::size_t width_;
    std::array<float, block> factor_;
    std::array<const T*, block> from_;
    alignas(64) std::array<float, 2048> sum_{};
};

/// sums[row] += Σ over the queries of probabilities[query][row], for rows [first, last).
inline void add_probabilities(const tensor_view<const float, 2>& probabilities, std::size_t first,
                              std::size_t last, float* sums) noexcept {
    const auto add = [&]<std::size_t Vectors>(std::size_t row, std::integral_constant<std::size_t, Vectors>)
        __attribute__((always_inline)) {
        std::array<float_vector, Vectors> sum;
        unroll<Vectors>([&](auto v) __attribute__((always_inline)) { sum[v] = hn::Zero(floats); });
        const float* from = probabilities.data + row;
        for (std::size_t query = 0; query < probabilities.extents[0];
             ++query, from += probabilities.strides[0])
            unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
                sum[v] = hn::Add(sum[v], hn::LoadU(floats, from + v * lanes));
            });
        unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
            float* to = sums + row + v * lanes;
            hn::StoreU(hn::Add(hn::LoadU(floats, to), sum[v]), floats, to);
        });
    };
    std::size_t row = first;
    for (; row + 4 * lanes <= last; row += 4 * lanes)
        add(row, std::integral_constant<std::size_t, 4>{});
    for (; row + lanes <= last; row += lanes)
        add(row, std::integral_constant<std::size_t, 1>{});
    for (; row < last; ++row) {
        float sum = 0;
        for (std::size_t query = 0; query < probabilities.extents[0]; ++query)
            sum += probabilities(query, row);
        sums[row] += sum;
    }
}

} // namespace vtensor::attention::detail::HWY_NAMESPACE

#endif
