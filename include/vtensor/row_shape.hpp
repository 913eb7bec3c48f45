// SPDX-License-Identifier: Apache-2.0
//
// The fixed shape of one row of a virtual tensor: everything but the leading dimension. A small value.
#pragma once

#include <vtensor/core/config.hpp>

#include <concepts>
#include <cstddef>
#include <limits>

namespace vtensor {

/// Up to seven extents, in row-major order: `row_shape{kv_heads, head_dim}`. A shape without extents is one
/// element.
class row_shape {
  public:
    static constexpr std::size_t max_rank = 7;

    template <std::integral... Extent>
    requires(sizeof...(Extent) <= max_rank) constexpr row_shape(
        Extent... extents) noexcept // NOLINT: row_shape is what a list of extents means
        : extents_{to_extent(extents)...}, rank_{sizeof...(Extent)} {}

    [[nodiscard]] constexpr std::size_t rank() const noexcept { return rank_; }
    [[nodiscard]] constexpr std::size_t operator[](std::size_t dimension) const noexcept {
        return extents_[dimension];
    }

    /// Elements of one row; 0 where an extent is 0 or negative, or where the product does not fit.
    [[nodiscard]] constexpr std::size_t size() const noexcept {
        std::size_t product = 1;
        for (std::size_t dimension = 0; dimension < rank_; ++dimension) {
            if (extents_[dimension] == 0 ||
                product > std::numeric_limits<std::size_t>::max() / extents_[dimension])
                return 0;
            product *= extents_[dimension];
        }
        return product;
    }

    friend constexpr bool operator==(const row_shape&, const row_shape&) noexcept = default;

  private:
    template <std::integral Extent>
    static constexpr std::size_t to_extent(Extent extent) noexcept {
        return extent > 0 ? static_cast<std::size_t>(extent) : 0;
    }

    std::size_t extents_[max_rank] = {};
    std::size_t rank_ = 0;
};

} // namespace vtensor
