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

inline void append_bytes(const decoder::kv_view& view, std::vector<std::byte>& all) {
    std::visit(
        [&](const auto& tensor) {
            const auto* const start = reinterpret_cast<const std::byte*>(tensor.data);
            all.insert(all.end(), start, start + tensor.size() * sizeof(*tensor.data));
        },
        view);
}

/// K and V, layer by layer.
inline std::vector<std::byte> content_of_cache(decoder::kv_cache& cache, std::size_t layers) {
    std::vector<std::byte> all;
    for (std::size_t layer = 0; layer < layers; ++layer) {
        const auto rows = cache.try_read(layer).value();
        append_bytes(rows.keys, all);
        append_bytes(rows.values, all);
    }
    return all;
}

} // namespace decoder_test
