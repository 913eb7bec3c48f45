// SPDX-License-Identifier: Apache-2.0
#include "model/kv_cache.hpp"

#include "model/kv_cache_on.hpp"

namespace decoder {

namespace {

using vtensor::host_backend;
namespace growth = vtensor::growth;

template <class T>
std::unique_ptr<kv_cache> make_typed(host_backend& backend, const kv_shape& shape,
                                     const kv_options& options) {
    switch (options.growth) {
    case kv_growth::exact:
        return std::make_unique<kv_cache_on<T, host_backend, growth::exact>>(backend, shape, options);
    case kv_growth::fixed:
        return std::make_unique<kv_cache_on<T, host_backend, growth::fixed<4>>>(backend, shape, options);
    case kv_growth::geometric:
        return std::make_unique<kv_cache_on<T, host_backend, growth::geometric<3, 2>>>(backend, shape,
                                                                                       options);
    case kv_growth::look_ahead:
        return std::make_unique<kv_cache_on<T, host_backend, growth::look_ahead<2>>>(backend, shape, options);
    }
    return nullptr;
}

} // namespace

std::size_t size_of(kv_type type) noexcept { return type == kv_type::f32 ? 4 : 2; }

vtensor::bytes memory_for(const kv_shape& shape, kv_type type, vtensor::bytes page,
                          std::size_t rows) noexcept {
    const vtensor::bytes tensor{rows * shape.kv_heads * shape.head_dim * size_of(type)};
    return vtensor::round_up(tensor, page) * (2 * shape.layers);
}

std::unique_ptr<kv_cache> make_kv_cache(vtensor::host_backend& backend, const kv_shape& shape,
                                        const kv_options& options) {
    switch (options.type) {
    case kv_type::f32:
        return make_typed<float>(backend, shape, options);
    case kv_type::f16:
        return make_typed<vtensor::float16>(backend, shape, options);
    case kv_type::bf16:
        return make_typed<vtensor::bfloat16>(backend, shape, options);
    }
    return nullptr;
}

} // namespace decoder
