// SPDX-License-Identifier: Apache-2.0
//
// The few vector operations that attention needs beside those of Highway: loading any storage type as floats,
// powers of two, and the sums of many vectors at once. For the instruction set that the including file is
// compiled for (static dispatch); everything lies in a namespace named after it, so that files compiled for
// different ones can be linked together.
#pragma once

#include <vtensor/attention/detail/highway.hpp>
#include <vtensor/core/element.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

/// 1 where the instruction set has vectors of a fixed size of at least four floats.
#define VTENSOR_ATTENTION_HAS_VECTORS (!HWY_HAVE_SCALABLE && HWY_TARGET != HWY_SCALAR)

#if VTENSOR_ATTENTION_HAS_VECTORS

#define VTENSOR_ATTENTION_INLINE inline __attribute__((always_inline))

namespace vtensor::attention::detail::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using float_tag = hn::ScalableTag<float>;
using float_vector = hn::Vec<float_tag>;
inline constexpr float_tag floats{};
/// Floats in a vector: a power of two, at least 4.
inline constexpr std::size_t lanes = hn::MaxLanes(float_tag{});

/// Calls `body` with the constants 0 … Count − 1, so that arrays of vectors stay in registers.
template <std::size_t Count, class Body>
VTENSOR_ATTENTION_INLINE void unroll(Body&& body) {
    [&]<std::size_t... Index>(std::index_sequence<Index...>) __attribute__((always_inline)) {
        (body(std::integral_constant<std::size_t, Index>{}), ...);
    }
    (std::make_index_sequence<Count>{});
}

/// `lanes` elements from `from`, which needs no alignment, as floats.
template <class T>
[[nodiscard]] VTENSOR_ATTENTION_INLINE float_vector load(const T* from) {
    if constexpr (std::is_same_v<T, float>) {
        return hn::LoadU(floats, from);
    } else {
        using half = std::conditional_t<std::is_same_v<T, float16>, hwy::float16_t, hwy::bfloat16_t>;
        const hn::Rebind<std::uint16_t, float_tag> bits;
        const hn::Rebind<half, float_tag> halves;
        return hn::PromoteTo(
            floats, hn::BitCast(halves, hn::LoadU(bits, reinterpret_cast<const std::uint16_t*>(from))));
    }
}

/// The same vector, loaded once: GCC would load it again for each of its uses, and the load ports are the
/// narrow place of the first product.
[[nodiscard]] VTENSOR_ATTENTION_INLINE float_vector in_register(float_vector vector) {
#if HWY_ARCH_X86 && HWY_COMPILER_GCC_ACTUAL && HWY_TARGET <= HWY_SSSE3
    asm("" : "+v"(vector.raw));
#endif
    return vector;
}

/// The first `count` < `lanes` elements from `from`, zeros behind them. Touches nothing beyond them.
template <class T>
[[nodiscard]] VTENSOR_ATTENTION_INLINE float_vector load_some(const T* from, std::size_t count) {
    alignas(64) std::array<T, lanes> whole{};
    std::memcpy(whole.data(), from, count * sizeof(T));
    return load(whole.data());
}

/// Writes the first `count` < `lanes` floats of `vector`.
VTENSOR_ATTENTION_INLINE void store_some(float_vector vector, float* to, std::size_t count) {
    alignas(64) std::array<float, lanes> whole;
    hn::Store(vector, floats, whole.data());
    std::memcpy(to, whole.data(), count * sizeof(float));
}

/// 2^x for x ≤ 127 within 2·10⁻⁷ of the true value; below −126.5, and for −∞, exactly 0; of 0 exactly 1. The
/// polynomial has the least relative error (1.9·10⁻⁹) of its degree on [−½, ½]; found by Remez exchange.
[[nodiscard]] VTENSOR_ATTENTION_INLINE float_vector exp2(float_vector x) {
    const hn::RebindToSigned<float_tag> integers;
    const auto clamped = hn::Max(x, hn::Set(floats, -127.0f));
    const auto whole = hn::NearestInt(clamped);
    const auto part = hn::Sub(clamped, hn::ConvertTo(floats, whole));
    constexpr std::array coefficients{0x1.5f456ap-10f, 0x1.3b2dbcp-7f, 0x1.c6aed4p-5f,
                                      0x1.ebfbdap-3f,  0x1.62e43p-1f,  1.0f};
    auto sum = hn::Set(floats, 0x1.41d334p-13f);
    unroll<coefficients.size()>([&](auto power) __attribute__((always_inline)) {
        sum = hn::MulAdd(sum, part, hn::Set(floats, coefficients[power]));
    });
    const auto power = hn::ShiftLeft<23>(hn::Add(whole, hn::Set(integers, 127)));
    return hn::Mul(sum, hn::BitCast(floats, power));
}

/// Groups of `Size` lanes, every odd one from `odd`, every even one from `even`. A blend.
template <std::size_t Size>
[[nodiscard]] VTENSOR_ATTENTION_INLINE float_vector odd_even(float_vector odd, float_vector even) {
    if constexpr (Size * 2 == lanes) {
        return hn::ConcatUpperLower(floats, odd, even);
    } else if constexpr (Size == 1) {
        return hn::OddEven(odd, even);
    } else if constexpr (Size == 2) {
        const hn::Repartition<std::uint64_t, float_tag> pairs;
        return hn::BitCast(floats, hn::OddEven(hn::BitCast(pairs, odd), hn::BitCast(pairs, even)));
    } else {
        static_assert(Size == 4, "vectors of at most 512 bits");
        return hn::OddEvenBlocks(odd, even);
    }
}

/// Every group of `Size` lanes in the place of its neighbour.
template <std::size_t Size>
[[nodiscard]] VTENSOR_ATTENTION_INLINE float_vector swap_neighbours(float_vector vector) {
    if constexpr (Size * 2 == lanes)
        return hn::ConcatLowerUpper(floats, vector, vector);
    else if constexpr (Size == 1)
        return hn::Shuffle2301(vector);
    else if constexpr (Size == 2)
        return hn::Shuffle1032(vector);
    else
        return hn::SwapAdjacentBlocks(vector);
}

/// Pairwise sums of neighbouring groups of `Size` lanes: those of `one` where the groups are even, those of
/// `other` where they are odd. One shuffle only: blends use the ports that products leave idle.
template <std::size_t Size>
[[nodiscard]] VTENSOR_ATTENTION_INLINE float_vector fold(float_vector one, float_vector other) {
    return hn::Add(odd_even<Size>(other, one), swap_neighbours<Size>(odd_even<Size>(one, other)));
}

/// The sums over each of `lanes` vectors, in order, one a lane: a tree of folds.
template <std::size_t Count>
[[nodiscard]] VTENSOR_ATTENTION_INLINE float_vector sums(const std::array<float_vector, Count>& vectors) {
    if constexpr (Count == 1) {
        return vectors[0];
    } else {
        std::array<float_vector, Count / 2> folded;
        unroll<Count / 2>([&](auto pair) __attribute__((always_inline)) {
            folded[pair] = fold<lanes / Count>(vectors[2 * pair], vectors[2 * pair + 1]);
        });
        return sums(folded);
    }
}

/// Turns `lanes` rows of `lanes` columns into columns, by exchanging ever larger blocks.
template <std::size_t Size = 1>
VTENSOR_ATTENTION_INLINE void transpose(std::array<float_vector, lanes>& rows) {
    unroll<lanes>([&](auto index) __attribute__((always_inline)) {
        if constexpr ((index & Size) == 0) {
            const auto upper = rows[index];
            const auto lower = rows[index + Size];
            rows[index] = odd_even<Size>(swap_neighbours<Size>(lower), upper);
            rows[index + Size] = odd_even<Size>(lower, swap_neighbours<Size>(upper));
        }
    });
    if constexpr (Size * 2 < lanes)
        transpose<Size * 2>(rows);
}

} // namespace vtensor::attention::detail::HWY_NAMESPACE

#endif
