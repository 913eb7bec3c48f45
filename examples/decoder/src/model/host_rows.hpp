// SPDX-License-Identifier: Apache-2.0
//
// How a cache reaches its rows where the processor may touch them: in place. `device_rows` has the same
// members for the other case; kv_cache_on.hpp chooses. Owns nothing.
#pragma once

#include "model/kv_cache.hpp"

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/element.hpp>
#include <vtensor/core/error.hpp>
#include <vtensor/view.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace decoder {

/// Writes floats in the type that the cache stores.
template <class T>
void store(std::span<const float> from, T* to) noexcept {
    std::transform(from.begin(), from.end(), to, [](float value) { return vtensor::from_float<T>(value); });
}

/// K and V of one layer where they lie: [tokens, kv heads, head dimension].
template <class T>
struct layer_memory {
    vtensor::tensor_view<T, 3> keys;
    vtensor::tensor_view<T, 3> values;
};

template <class T, vtensor::backend Backend>
class host_rows {
  public:
    static constexpr bool wait_for_retiring = false;

    host_rows(Backend&, const kv_shape&) noexcept {}

    // ---- rows ----

    [[nodiscard]] vtensor::status try_make_room(std::size_t) noexcept { return {}; }
    [[nodiscard]] vtensor::status try_store(const layer_memory<T>& to, std::size_t first,
                                            std::span<const float> keys,
                                            std::span<const float> values) noexcept {
        store(keys, to.keys[first].data);
        store(values, to.values[first].data);
        return {};
    }
    /// Where the processor can read them.
    [[nodiscard]] vtensor::result<layer_memory<T>> try_read(const layer_memory<T>& from) noexcept {
        return from;
    }

    // ---- giving memory up ----

    template <class Tensor>
    [[nodiscard]] vtensor::status try_resize(Tensor& tensor, std::size_t rows) noexcept {
        return tensor.try_resize(rows);
    }
    template <class Tensor>
    [[nodiscard]] vtensor::status try_trim(Tensor& tensor) noexcept {
        return tensor.try_trim();
    }
    template <class Tensor>
    void retire(Tensor&) noexcept {}
    template <class Pool>
    void reclaim(Pool&) noexcept {}
    template <class Pool>
    void drain(Pool&) noexcept {}
};

} // namespace decoder
