// SPDX-License-Identifier: Apache-2.0
//
// From the user's choices to template arguments: every element type and growth policy, over one backend. Each
// backend has a source file of its own that includes this one.
#pragma once

#include "model/kv_cache.hpp"
#include "model/kv_cache_on.hpp"

namespace decoder {

template <class T, vtensor::backend Backend>
std::unique_ptr<kv_cache> make_typed_cache(Backend& backend, const kv_shape& shape,
                                           const kv_options& options) {
    namespace growth = vtensor::growth;
    switch (options.growth) {
    case kv_growth::exact:
        return std::make_unique<kv_cache_on<T, Backend, growth::exact>>(backend, shape, options);
    case kv_growth::fixed:
        return std::make_unique<kv_cache_on<T, Backend, growth::fixed<4>>>(backend, shape, options);
    case kv_growth::geometric:
        return std::make_unique<kv_cache_on<T, Backend, growth::geometric<3, 2>>>(backend, shape, options);
    case kv_growth::look_ahead:
        return std::make_unique<kv_cache_on<T, Backend, growth::look_ahead<2>>>(backend, shape, options);
    }
    return nullptr;
}

template <vtensor::backend Backend>
std::unique_ptr<kv_cache> make_kv_cache(Backend& backend, const kv_shape& shape, const kv_options& options) {
    switch (options.type) {
    case kv_type::f32:
        return make_typed_cache<float>(backend, shape, options);
    case kv_type::f16:
        return make_typed_cache<vtensor::float16>(backend, shape, options);
    case kv_type::bf16:
        return make_typed_cache<vtensor::bfloat16>(backend, shape, options);
    }
    return nullptr;
}

} // namespace decoder
