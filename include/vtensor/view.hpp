// SPDX-License-Identifier: Apache-2.0
//
// What a kernel receives: a pointer, extents and strides, trivially copyable, with no way back to the memory
// management behind it. It never owns, never checks in release builds, and needs no standard library type
// that nvcc could not compile for the device.
#pragma once

#include <vtensor/core/config.hpp>

#include <cstddef>
#include <type_traits>

namespace vtensor {

/// A strided array of `Rank` dimensions over memory that somebody else owns. Extents and strides count
/// elements of `T`; the last dimension of a virtual tensor's view has stride 1. Valid as long as the pages
/// under it stay mapped: growing the tensor keeps it valid for the rows it covers, because rows never move.
template <class T, std::size_t Rank>
struct tensor_view {
    static_assert(Rank >= 1, "a view has at least one dimension");

    using element_type = T;
    using value_type = std::remove_cv_t<T>;
    static constexpr std::size_t rank = Rank;

    T* data = nullptr;
    std::size_t extents[Rank] = {};
    std::ptrdiff_t strides[Rank] = {};

    /// The element at the given position, one index a dimension.
    template <class... Index>
    [[nodiscard]] VTENSOR_HOST_DEVICE constexpr T& operator()(Index... index) const noexcept {
        static_assert(sizeof...(Index) == Rank, "one index for every dimension");
        const std::size_t indices[Rank] = {static_cast<std::size_t>(index)...};
        std::ptrdiff_t offset = 0;
        for (std::size_t dimension = 0; dimension < Rank; ++dimension) {
            VTENSOR_ASSERT(indices[dimension] < extents[dimension]);
            offset += static_cast<std::ptrdiff_t>(indices[dimension]) * strides[dimension];
        }
        return data[offset];
    }

    /// The view without its first dimension, at `index` of it.
    [[nodiscard]] VTENSOR_HOST_DEVICE constexpr tensor_view<T, Rank - 1>
    operator[](std::size_t index) const noexcept requires(Rank > 1) {
        VTENSOR_ASSERT(index < extents[0]);
        tensor_view<T, Rank - 1> inner;
        inner.data = data + static_cast<std::ptrdiff_t>(index) * strides[0];
        for (std::size_t dimension = 1; dimension < Rank; ++dimension) {
            inner.extents[dimension - 1] = extents[dimension];
            inner.strides[dimension - 1] = strides[dimension];
        }
        return inner;
    }

    /// The first `count` entries of the leading dimension from `first` on.
    [[nodiscard]] VTENSOR_HOST_DEVICE constexpr tensor_view rows(std::size_t first,
                                                                 std::size_t count) const noexcept {
        VTENSOR_ASSERT(first + count <= extents[0]);
        tensor_view part = *this;
        part.data = data + static_cast<std::ptrdiff_t>(first) * strides[0];
        part.extents[0] = count;
        return part;
    }

    /// How many elements the view covers.
    [[nodiscard]] VTENSOR_HOST_DEVICE constexpr std::size_t size() const noexcept {
        std::size_t product = 1;
        for (std::size_t dimension = 0; dimension < Rank; ++dimension)
            product *= extents[dimension];
        return product;
    }

    /// A view of mutable elements is a view of const ones.
    template <class U>
    VTENSOR_HOST_DEVICE constexpr operator tensor_view<U, Rank>() const noexcept
        requires(!std::is_const_v<T> && std::is_same_v<U, const T>) {
        tensor_view<U, Rank> constant;
        constant.data = data;
        for (std::size_t dimension = 0; dimension < Rank; ++dimension) {
            constant.extents[dimension] = extents[dimension];
            constant.strides[dimension] = strides[dimension];
        }
        return constant;
    }
};

static_assert(std::is_trivially_copyable_v<tensor_view<float, 3>>);

/// A view over a dense array in row-major order (the last dimension is contiguous).
template <class T, class... Extent>
[[nodiscard]] VTENSOR_HOST_DEVICE constexpr auto make_view(T* data, Extent... extents) noexcept {
    constexpr std::size_t rank = sizeof...(Extent);
    tensor_view<T, rank> view;
    view.data = data;
    const std::size_t sizes[rank] = {static_cast<std::size_t>(extents)...};
    std::ptrdiff_t stride = 1;
    for (std::size_t dimension = rank; dimension-- > 0;) {
        view.extents[dimension] = sizes[dimension];
        view.strides[dimension] = stride;
        stride *= static_cast<std::ptrdiff_t>(sizes[dimension]);
    }
    return view;
}

} // namespace vtensor
