// SPDX-License-Identifier: Apache-2.0
//
// A KV cache with an eviction policy: its heads may end with different lengths, so that every layer lies in
// one of the library's layouts. On the host's memory.
#pragma once

#include "io/weights.hpp"
#include "model/eviction_method.hpp"
#include "model/kv_cache.hpp"

#include <vtensor/backends/host.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace decoder {

enum class kv_layout : std::uint8_t { per_layer, per_head, packed };

/// What the user may choose, and what the model gives.
struct eviction_options {
    std::unique_ptr<eviction_method> method;
    defrag_kind defrag = defrag_kind::compact;
    kv_layout layout = kv_layout::per_head;
    std::size_t query_heads = 0;
    std::vector<weight> output_weights{}; ///< W_O of every layer
    /// The kernel's count of the cache's memory.
    std::function<std::optional<vtensor::bytes>()> counted{};
};

/// `options.growth` must be `exact`. The backend must outlive the cache. Throws what `vtensor::chunk_pool`
/// and the layouts throw.
[[nodiscard]] std::unique_ptr<kv_cache> make_evicting_cache(vtensor::host_backend& backend,
                                                            const kv_shape& shape, const kv_options& options,
                                                            eviction_options&& eviction);

} // namespace decoder
