// SPDX-License-Identifier: Apache-2.0
//
// What the kernels of evidence refuse, found before the first float is written.
#pragma once

#include <vtensor/attention/detail/check.hpp>
#include <vtensor/attention/problem.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace vtensor::attention::detail {

[[nodiscard]] constexpr error malformed_evidence() noexcept {
    return {.code = errc::invalid_argument, .where = verb::attend};
}

/// True where `view` can be written by [head, row]: rows side by side, heads apart.
[[nodiscard]] constexpr bool is_evidence(const tensor_view<float, 2>& view) noexcept {
    const std::ptrdiff_t stride = view.strides[0] < 0 ? -view.strides[0] : view.strides[0];
    return view.size() == 0 ||
           (view.data != nullptr && (view.extents[1] <= 1 || view.strides[1] == 1) &&
            (view.extents[0] <= 1 || static_cast<std::size_t>(stride) >= view.extents[1]));
}

/// Checks heads whose rows begin at the member `memory`, and what is written about them.
template <class T>
[[nodiscard]] constexpr bool describe_evidence(std::span<const kv_head<T>> heads, std::size_t width,
                                               const T* kv_head<T>::*memory,
                                               const tensor_view<float, 2>& written) noexcept {
    return width != 0 && written.extents[0] == heads.size() && is_evidence(written) &&
           std::ranges::all_of(heads, [&](const kv_head<T>& head) {
               return head.rows <= written.extents[1] && (head.rows == 0 || head.*memory != nullptr);
           });
}

/// Checks an output projection for `kv_heads` KV heads. Its strides may be anything.
template <class Weight>
[[nodiscard]] constexpr bool is_projection(const tensor_view<const Weight, 3>& weights,
                                           std::size_t kv_heads) noexcept {
    if (kv_heads == 0)
        return weights.extents[0] == 0;
    return weights.data != nullptr && weights.size() != 0 && weights.extents[0] % kv_heads == 0;
}

} // namespace vtensor::attention::detail
