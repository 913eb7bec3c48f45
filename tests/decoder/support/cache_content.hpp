// SPDX-License-Identifier: Apache-2.0
//
// Every byte that a cache holds, as the model would read it.
#pragma once

#include "model/kv_cache.hpp"

#include <vtensor/core/exception.hpp>

#include <cstddef>
#include <variant>
#include <vector>

namespace decoder_test {

/// Rows of all heads, one behind the other: `stride` elements each.
template <class T>
void append_bytes(const T* rows, std::ptrdiff_t stride, std::size_t count, std::vector<std::byte>& all) {
    const auto* const start = reinterpret_cast<const std::byte*>(rows);
    all.insert(all.end(), start, start + count * static_cast<std::size_t>(stride) * sizeof(T));
}

/// K and V, layer by layer, of a cache whose heads lie in one tensor.
inline std::vector<std::byte> content_of_cache(decoder::kv_cache& cache, std::size_t layers) {
    std::vector<std::byte> all;
    for (std::size_t layer = 0; layer < layers; ++layer) {
        std::visit(
            [&](const auto& heads) {
                append_bytes(heads.front().keys, heads.front().key_stride, heads.front().rows, all);
                append_bytes(heads.front().values, heads.front().value_stride, heads.front().rows, all);
            },
            cache.try_read(layer).value());
    }
    return all;
}

} // namespace decoder_test
