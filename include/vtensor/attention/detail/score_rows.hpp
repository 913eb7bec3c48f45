// SPDX-License-Identifier: Apache-2.0
//
// Writes the probabilities of a tile of query heads while they are still weights: each block goes to its rows
// at once, relative to the softmax's reference point of that moment, and one pass at the end turns everything
// into probabilities. The few moments at which the reference point moved are remembered in a fixed table.
//
// Rows too long to stay in a cache until that pass are written past it: to fetch a line only to overwrite it
// would cost as much as reading that many bytes of keys.
#pragma once

#include <vtensor/attention/detail/simd.hpp>
#include <vtensor/attention/detail/softmax_state.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#if VTENSOR_ATTENTION_HAS_VECTORS

namespace vtensor::attention::detail::HWY_NAMESPACE {

/// The score rows of the heads of one tile. Rows come in rising order, written or cleared.
class score_rows {
  public:
    score_rows() = default;
    /// `rows`: one array of `columns` floats a head, for `heads` heads.
    score_rows(const std::array<float*, tile_heads>& rows, std::size_t heads, std::size_t columns) noexcept
        : rows_{rows}, heads_{heads}, past_cache_{heads * columns * sizeof(float) > cached_bytes} {}

    /// Makes the probabilities of rows [first, last) zero: those that are never written.
    void clear(std::size_t first, std::size_t last) noexcept {
        for (std::size_t head = 0; head < heads_; ++head)
            std::fill(rows_[head] + first, rows_[head] + last, 0.0f);
    }

    /// Says that the weights from `row` on refer to the reference points of `state`.
    template <std::size_t Stride>
    HWY_NOINLINE void begin(std::size_t row, const softmax_state& state) noexcept {
        if (periods_ == period_.size()) {
            for (std::size_t head = 0; head < heads_; ++head)
                rescale(head, row, state.reference(head), 1.0f);
            periods_ = 1;
            period_[0].first_row = 0;
        } else {
            period_[periods_++].first_row = row;
        }
        for (std::size_t head = 0; head < heads_; ++head)
            period_[periods_ - 1].reference[head] = state.reference(head);
    }

    /// Stores the weights of `count` rows, given as [row][padded head].
    template <std::size_t Stride>
    VTENSOR_ATTENTION_INLINE void write(std::size_t row, const float* weights, std::size_t count) noexcept {
        std::size_t index = 0;
        for (; index + lanes <= count; index += lanes) {
            std::array<float_vector, Stride> by_head;
            const float* from = weights + index * Stride;
            if constexpr (Stride == 1)
                by_head[0] = hn::Load(floats, from);
            else if constexpr (Stride == 2)
                hn::LoadInterleaved2(floats, from, by_head[0], by_head[1]);
            else
                hn::LoadInterleaved4(floats, from, by_head[0], by_head[1], by_head[2], by_head[3]);
            for (std::size_t head = 0; head < heads_; ++head)
                store(by_head[head], rows_[head] + row + index);
        }
        for (; index < count; ++index)
            for (std::size_t head = 0; head < heads_; ++head)
                rows_[head][row + index] = weights[index * Stride + head];
    }

    /// Turns all weights into probabilities.
    template <std::size_t Stride>
    void finish(std::size_t end, const softmax_state& state) noexcept {
        if (past_cache_)
            hwy::FlushStream();
        for (std::size_t head = 0; head < heads_; ++head) {
            const float total = state.total<Stride>(head);
            rescale(head, end, state.reference(head), total == 0 ? 0 : 1 / total);
        }
    }

  private:
    /// What a second-level cache holds with keys and values passing through it.
    static constexpr std::size_t cached_bytes = std::size_t{512} << 10;

    VTENSOR_ATTENTION_INLINE void store(float_vector weights, float* to) const noexcept {
        if (past_cache_ && reinterpret_cast<std::uintptr_t>(to) % (lanes * sizeof(float)) == 0)
            hn::Stream(weights, floats, to);
        else
            hn::StoreU(weights, floats, to);
    }

    struct period {
        std::size_t first_row = 0;
        std::array<float, tile_heads> reference{};
    };

    /// Makes the weights of rows [0, end) refer to `reference` and multiplies them by `factor`.
    void rescale(std::size_t head, std::size_t end, float reference, float factor) noexcept {
        for (std::size_t index = 0; index < periods_; ++index) {
            const std::size_t first = period_[index].first_row;
            const std::size_t last = index + 1 < periods_ ? period_[index + 1].first_row : end;
            multiply(rows_[head] + first, last - first,
                     std::exp2(period_[index].reference[head] - reference) * factor);
        }
    }

    static void multiply(float* weights, std::size_t count, float factor) noexcept {
        const auto by = hn::Set(floats, factor);
        std::size_t index = 0;
        for (; index + lanes <= count; index += lanes)
            hn::StoreU(hn::Mul(hn::LoadU(floats, weights + index), by), floats, weights + index);
        for (; index < count; ++index)
            weights[index] *= factor;
    }

    std::array<float*, tile_heads> rows_{};
    std::size_t heads_ = 0;
    bool past_cache_ = false;
    std::array<period, 16> period_{};
    std::size_t periods_ = 0;
};

} // namespace vtensor::attention::detail::HWY_NAMESPACE

#endif
