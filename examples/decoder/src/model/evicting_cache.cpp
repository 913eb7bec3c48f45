// SPDX-License-Identifier: Apache-2.0
#include "model/evicting_cache.hpp"

#include "model/evicting_cache_on.hpp"

#include <vtensor/kv/packed_cache.hpp>
#include <vtensor/kv/per_head_cache.hpp>
#include <vtensor/kv/per_layer_cache.hpp>

namespace decoder {

namespace {

namespace kv = vtensor::kv;
using vtensor::host_backend;

template <class T>
std::unique_ptr<kv_cache> make_typed(host_backend& backend, const kv_shape& shape, const kv_options& options,
                                     eviction_options&& eviction) {
    const auto made = [&]<class Layer>(std::type_identity<Layer>) -> std::unique_ptr<kv_cache> {
        return std::make_unique<evicting_cache_on<Layer>>(backend, shape, options, std::move(eviction));
    };
    switch (eviction.layout) {
    case kv_layout::per_layer:
        return made(std::type_identity<kv::per_layer_cache<T, host_backend>>{});
    case kv_layout::per_head:
        return made(std::type_identity<kv::per_head_cache<T, host_backend>>{});
    case kv_layout::packed:
        return made(std::type_identity<kv::packed_cache<T, host_backend>>{});
    }
    return nullptr;
}

} // namespace

std::unique_ptr<kv_cache> make_evicting_cache(host_backend& backend, const kv_shape& shape,
                                              const kv_options& options, eviction_options&& eviction) {
    switch (options.type) {
    case kv_type::f32:
        return make_typed<float>(backend, shape, options, std::move(eviction));
    case kv_type::f16:
        return make_typed<vtensor::float16>(backend, shape, options, std::move(eviction));
    case kv_type::bf16:
        return make_typed<vtensor::bfloat16>(backend, shape, options, std::move(eviction));
    }
    return nullptr;
}

} // namespace decoder
