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

/// to[j] += row[j] · factor.
inline void add_scaled_row(float* __restrict to, const float* __restrict row, float factor,
                           std::size_t n) noexcept {
    for (std::size_t j = 0; j < n; ++j)
        to[j] += row[j] * factor;
}

/// row[j] *= factor.
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

/// The sum, in float inside blocks of 1024 (pairwise, so that it vectorises as it stands) and in double
/// between them. Not finite where an entry is not.
[[nodiscard]] inline double sum_row(const float* row, std::size_t n) noexcept {
    constexpr std::size_t block = 1024;
    float partial[block / 2];
    double total = 0;
    std::size_t j = 0;
    for (; n - j >= block; j += block) {
        for (std::size_t i = 0; i < block / 2; ++i)
            partial[i] = row[j + i] + row[j + i + block / 2];
        for (std::size_t half = block / 4; half > 0; half /= 2)
            for (std::size_t i = 0; i < half; ++i)
                partial[i] += partial[i + half];
        total += static_cast<double>(partial[0]);
    }
    for (; j < n; ++j)
        total += static_cast<double>(row[j]);
    return total;
}

/// The sums of four rows, read side by side: memory gives four streams faster than one after the other.
inline void sum_four_rows(const float* const (&rows)[4], std::size_t n, double (&sums)[4]) noexcept {
    constexpr std::size_t block = 1024;
    constexpr std::size_t part = block / 2;
    float partial[4][part];
    std::fill(sums, sums + 4, 0.0);
    std::size_t j = 0;
    for (; n - j >= block; j += block) {
        const float* const a = rows[0] + j;
        const float* const b = rows[1] + j;
        const float* const c = rows[2] + j;
        const float* const d = rows[3] + j;
        for (std::size_t i = 0; i < part; ++i) {
            partial[0][i] = a[i] + a[i + part];
            partial[1][i] = b[i] + b[i + part];
            partial[2][i] = c[i] + c[i + part];
            partial[3][i] = d[i] + d[i + part];
        }
        for (std::size_t row = 0; row < 4; ++row) {
            for (std::size_t half = part / 2; half > 0; half /= 2)
                for (std::size_t i = 0; i < half; ++i)
                    partial[row][i] += partial[row][i + half];
            sums[row] += static_cast<double>(partial[row][0]);
        }
    }
    for (std::size_t row = 0; row < 4; ++row)
        sums[row] += sum_row(rows[row] + j, n - j);
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

/// to[j − begin] = (row[j − Width/2] + … + row[j + Width/2]) / Width for begin ≤ j < end; what lies outside
/// the n columns counts as 0.
template <std::size_t Width>
void average_fixed(float* __restrict to, const float* __restrict row, std::size_t n, std::size_t begin,
                   std::size_t end) noexcept {
    constexpr std::size_t half = Width / 2;
    constexpr float share = 1.0f / static_cast<float>(Width);
    const auto at_edge = [&](std::size_t j) {
        float sum = 0;
        for (std::size_t k = j < half ? 0 : j - half; k < std::min(n, j + half + 1); ++k)
            sum += row[k];
        to[j - begin] = sum * share;
    };
    const std::size_t left = std::min(std::max(begin, half), end);
    const std::size_t right = std::max(left, std::min(end, n < half ? n : n - half));
    for (std::size_t j = begin; j < left; ++j)
        at_edge(j);
    for (std::size_t j = left; j < right; ++j) {
        float sum = 0;
        for (std::size_t k = 0; k < Width; ++k)
            sum += row[j - half + k];
        to[j - begin] = sum * share;
    }
    for (std::size_t j = right; j < end; ++j)
        at_edge(j);
}

/// The same for an odd width known at run time: a pass a tap.
inline void average_any(float* __restrict to, const float* __restrict row, std::size_t n, std::size_t begin,
                        std::size_t end, std::size_t width) noexcept {
    const std::size_t half = width / 2;
    const float share = 1.0f / static_cast<float>(width);
    std::fill(to, to + (end - begin), 0.0f);
    for (std::size_t tap = 0; tap < width; ++tap) { // row[j + tap − half]
        const std::size_t first = std::max(begin, tap < half ? half - tap : 0);
        const std::size_t last = std::min(end, n + half > tap ? n + half - tap : 0);
        for (std::size_t j = first; j < last; ++j)
            to[j - begin] += row[j + tap - half] * share;
    }
}

/// The sum of a row after averaging, from the one before: the columns near the ends are in fewer averages.
[[nodiscard]] inline double sum_after_average(const float* row, std::size_t n, std::size_t width,
                                              double before) noexcept {
    const std::size_t half = width / 2;
    double lost = 0;
    for (std::size_t j = 0; j < std::min(half, n); ++j) {
        const auto windows = static_cast<double>(half - j);
        lost += windows * (static_cast<double>(row[j]) + static_cast<double>(row[n - 1 - j]));
    }
    return before - lost / static_cast<double>(width);
}

} // namespace vtensor::eviction::detail
