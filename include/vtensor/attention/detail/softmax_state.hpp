// SPDX-License-Identifier: Apache-2.0
//
// The running softmax of a tile of query heads over rows that arrive in blocks. Logits are base-2 (the factor
// log2 e is in the queries) and lie as [row][head], the heads padded to 1, 2 or 4, so that a vector holds
// whole rows.
//
// The reference point that keeps powers small is not the maximum itself: it moves only when a logit exceeds
// it by more than 8, so that weights stay below 2^8 and the accumulated outputs are hardly ever rescaled.
#pragma once

#include <vtensor/attention/detail/simd.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

#if VTENSOR_ATTENTION_HAS_VECTORS

namespace vtensor::attention::detail::HWY_NAMESPACE {

/// Rows that are taken together: their logits, then their weights, then their values.
inline constexpr std::size_t block_rows = 32;
static_assert(block_rows % lanes == 0);

/// Query heads that share one pass over the registers.
inline constexpr std::size_t tile_heads = 4;

/// The lowest finite reference point: below it lies only −∞, the logit of what is not seen.
inline constexpr float lowest = -3.0e38f;

/// How far a logit may exceed the reference point before that moves.
inline constexpr float reference_slack = 8.0f;

/// For one tile of heads. `Stride` is the number of heads, padded to 1, 2 or 4: lane l of every vector here
/// belongs to head l mod `Stride`.
class softmax_state {
  public:
    /// What the accumulated outputs of each head must be multiplied by when the reference point moved.
    using factors = std::array<float, tile_heads>;

    softmax_state() noexcept {
        reference_.fill(lowest);
        total_.fill(0);
    }

    /// Turns `count` logits (a multiple of `lanes`) into weights 2^(logit − reference). Returns true where
    /// the reference moved, with the factors for what was accumulated before.
    template <std::size_t Stride>
    [[nodiscard]] VTENSOR_ATTENTION_INLINE bool weigh(float* logits, std::size_t count, factors& rescale) {
        auto largest = hn::Load(floats, logits);
        for (std::size_t index = lanes; index < count; index += lanes)
            largest = hn::Max(largest, hn::Load(floats, logits + index));
        auto reference = hn::Load(floats, reference_.data());
        const bool moved =
            !hn::AllTrue(floats, hn::Le(largest, hn::Add(reference, hn::Set(floats, reference_slack))));
        if (HWY_UNLIKELY(moved)) {
            move<Stride>(largest, rescale);
            reference = hn::Load(floats, reference_.data());
        }
        auto total = hn::Load(floats, total_.data());
        for (std::size_t index = 0; index < count; index += lanes) {
            const auto weight = exp2(hn::Sub(hn::Load(floats, logits + index), reference));
            hn::Store(weight, floats, logits + index);
            total = hn::Add(total, weight);
        }
        hn::Store(total, floats, total_.data());
        return moved;
    }

    /// The sum of the weights of one head so far; 0 where it saw nothing.
    template <std::size_t Stride>
    [[nodiscard]] float total(std::size_t head) const noexcept {
        float sum = 0;
        for (std::size_t lane = head; lane < lanes; lane += Stride)
            sum += total_[lane];
        return sum;
    }

    /// The point that the weights of this head refer to now.
    [[nodiscard]] float reference(std::size_t head) const noexcept { return reference_[head]; }

  private:
    template <std::size_t Stride>
    HWY_NOINLINE void move(float_vector largest, factors& rescale) noexcept {
        alignas(64) std::array<float, lanes> lane_largest;
        hn::Store(largest, floats, lane_largest.data());
        alignas(64) std::array<float, lanes> factor;
        std::array<float, Stride> now;
        for (std::size_t head = 0; head < Stride; ++head) {
            now[head] = reference_[head];
            for (std::size_t lane = head; lane < lanes; lane += Stride)
                now[head] = std::max(now[head], lane_largest[lane]);
        }
        for (std::size_t lane = 0; lane < lanes; ++lane) {
            factor[lane] = reference_[lane] - now[lane % Stride];
            reference_[lane] = now[lane % Stride];
        }
        const auto power = exp2(hn::Load(floats, factor.data()));
        hn::Store(power, floats, factor.data());
        hn::Store(hn::Mul(hn::Load(floats, total_.data()), power), floats, total_.data());
        std::copy_n(factor.begin(), std::min(Stride, rescale.size()), rescale.begin());
    }

    alignas(64) std::array<float, lanes> reference_;
    alignas(64) std::array<float, lanes> total_;
};

} // namespace vtensor::attention::detail::HWY_NAMESPACE

#endif
