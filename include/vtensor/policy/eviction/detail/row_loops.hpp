// SPDX-License-Identifier: Apache-2.0
//
// The loops over columns that scoring spends its time in: contiguous, without branches, written so that
// compilers vectorise them without being allowed to reorder sums.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace vtensor::eviction::detail {

/// to[j] += row[j].
inline void add_row(float* __restrict to, const float* __restrict row, std::size_t n) noexcept {
    for (std::size_t j = 0; j < n; ++j)
        to[j] += row[j];
}

/// to[j] += a[j] + b[j] + c[j] + d[j]: a quarter of the traffic of four single additions.
inline void add_four_rows(float* __restrict to, const float* __restrict a, const float* __restrict b,
                          const float* __restrict c, const float* __restrict d, std::size_t n) noexcept {
    for (std::size_t j = 0; j < n; ++j)
        to[j] += (a[j] + b[j]) + (c[j] + d[j]);
}

inline void scale_row(float* __restrict row, float factor, std::size_t n) noexcept {
    for (std::size_t j = 0; j < n; ++j)
        row[j] *= factor;
}

/// to[j] = max(to[j], row[j] · factor).
inline void raise_to_row(float* __restrict to, const float* __restrict row, float factor,
                         std::size_t n) noexcept {
    for (std::size_t j = 0; j < n; ++j) {
        const float value = row[j] * factor;
        to[j] = to[j] < value ? value : to[j];
    }
}

/// row[j] = max(row[j], floor).
inline void clamp_row(float* __restrict row, float floor, std::size_t n) noexcept {
    for (std::size_t j = 0; j < n; ++j)
        row[j] = row[j] < floor ? floor : row[j];
}

/// The sum in blocks: float inside a block of 1024, double between blocks. Not finite where an entry is not.
[[nodiscard]] inline double sum_row(const float* row, std::size_t n) noexcept {
    constexpr std::size_t lanes = 16;
    constexpr std::size_t block = 1024;
    double total = 0;
    std::size_t j = 0;
    while (n - j >= lanes) {
        float partial[lanes] = {};
        const std::size_t end = j + std::min(block, (n - j) / lanes * lanes);
        for (; j < end; j += lanes)
            for (std::size_t lane = 0; lane < lanes; ++lane)
                partial[lane] += row[j + lane];
        for (const float value : partial)
            total += static_cast<double>(value);
    }
    for (; j < n; ++j)
        total += static_cast<double>(row[j]);
    return total;
}

/// Whether no entry is infinite or not a number.
[[nodiscard]] inline bool all_finite(const float* row, std::size_t n) noexcept {
    constexpr std::uint32_t exponent = 0x7f80'0000;
    std::uint32_t bad = 0;
    for (std::size_t j = 0; j < n; ++j)
        bad |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(row[j]) & exponent) == exponent);
    return bad == 0;
}

/// The largest entry, at least `least`.
[[nodiscard]] inline float largest(const float* row, std::size_t n, float least) noexcept {
    constexpr std::size_t lanes = 16;
    float best[lanes];
    std::fill_n(best, lanes, least);
    std::size_t j = 0;
    for (; j + lanes <= n; j += lanes)
        for (std::size_t lane = 0; lane < lanes; ++lane)
            best[lane] = best[lane] < row[j + lane] ? row[j + lane] : best[lane];
    for (; j < n; ++j)
        best[0] = std::max(best[0], row[j]);
    return *std::max_element(best, best + lanes);
}

/// to[j] = (row[j − Width/2] + … + row[j + Width/2]) / Width; what lies outside counts as 0.
template <std::size_t Width>
void average_fixed(float* __restrict to, const float* __restrict row, std::size_t n) noexcept {
    constexpr std::size_t half = Width / 2;
    constexpr float share = 1.0f / static_cast<float>(Width);
    const auto at_edge = [&](std::size_t j) {
        float sum = 0;
        for (std::size_t k = j < half ? 0 : j - half; k < std::min(n, j + half + 1); ++k)
            sum += row[k];
        to[j] = sum * share;
    };
    const std::size_t left = std::min(half, n);
    const std::size_t right = std::max(left, n < half ? n : n - half);
    for (std::size_t j = 0; j < left; ++j)
        at_edge(j);
    for (std::size_t j = left; j < right; ++j) {
        float sum = 0;
        for (std::size_t k = 0; k < Width; ++k)
            sum += row[j - half + k];
        to[j] = sum * share;
    }
    for (std::size_t j = right; j < n; ++j)
        at_edge(j);
}

/// The same for an odd width known at run time: O(n · width), a pass a tap.
inline void average_any(float* __restrict to, const float* __restrict row, std::size_t n,
                        std::size_t width) noexcept {
    const std::size_t half = width / 2;
    const float share = 1.0f / static_cast<float>(width);
    for (std::size_t j = 0; j < n; ++j)
        to[j] = row[j] * share;
    for (std::size_t shift = 1; shift <= std::min(half, n == 0 ? 0 : n - 1); ++shift) {
        for (std::size_t j = 0; j < n - shift; ++j)
            to[j] += row[j + shift] * share;
        for (std::size_t j = shift; j < n; ++j)
            to[j] += row[j - shift] * share;
    }
}

} // namespace vtensor::eviction::detail
