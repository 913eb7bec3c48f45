// SPDX-License-Identifier: Apache-2.0
#include "model/kv_cache.hpp"

namespace decoder {

std::size_t size_of(kv_type type) noexcept { return type == kv_type::f32 ? 4 : 2; }

vtensor::bytes memory_for(const kv_shape& shape, kv_type type, vtensor::bytes page,
                          std::size_t rows) noexcept {
    const vtensor::bytes tensor{rows * shape.kv_heads * shape.head_dim * size_of(type)};
    return vtensor::round_up(tensor, page) * (2 * shape.layers);
}

} // namespace decoder
