// SPDX-License-Identifier: Apache-2.0
//
// Pooling: a row's score spreads to its neighbours, so that what lies around an important token stays with
// it.
#pragma once

#include <vtensor/policy/eviction/detail/row_loops.hpp>
#include <vtensor/policy/eviction/part.hpp>

#include <cstddef>

namespace vtensor::eviction::pooling {

/// Every score stays as it is.
struct none {
    using category = part::pooling;
    static constexpr bool is_none = true;
    static constexpr bool keep_row_sum = false;
};

/// The mean of `width` neighbours, what lies beyond the ends counted as 0: SnapKV (arXiv 2404.14469) as
/// kvpress computes it. O(n) for a width of 3, 5 or 7, O(n · width) for others.
template <std::size_t Width = 5, bool KeepRowSum = false>
struct average {
    using category = part::pooling;
    static constexpr bool is_none = false;
    std::size_t width = Width; ///< odd
    /// Every plane is scaled to the sum that it had before, because the ends lose some: DefensiveKV
    /// (arXiv 2510.13334). A plane whose pooled sum is 0 stays 0.
    bool keep_row_sum = KeepRowSum;

    [[nodiscard]] constexpr bool valid() const noexcept { return width % 2 == 1; }
    /// Writes columns begin … end of the pooled `row` of n columns to `to`, which does not overlap it.
    void pool(const float* row, std::size_t n, std::size_t begin, std::size_t end, float* to) const noexcept {
        switch (width) {
        case 3:
            return detail::average_fixed<3>(to, row, n, begin, end);
        case 5:
            return detail::average_fixed<5>(to, row, n, begin, end);
        case 7:
            return detail::average_fixed<7>(to, row, n, begin, end);
        default:
            return detail::average_any(to, row, n, begin, end, width);
        }
    }
    /// What a pooled row of the sum `sum` is multiplied by.
    [[nodiscard]] float scale(const float* row, std::size_t n, double sum) const noexcept {
        if (!keep_row_sum)
            return 1;
        const double after = detail::sum_after_average(row, n, width, sum);
        return after == 0 ? 1.0f : static_cast<float>(sum / after);
    }
};

} // namespace vtensor::eviction::pooling
