// SPDX-License-Identifier: Apache-2.0
#include "model/managed_sequences_on.hpp"

namespace decoder {

std::unique_ptr<managed_sequences> make_managed_sequences(vtensor::host_backend& backend,
                                                          const kv_shape& shape, const kv_options& options) {
    switch (options.type) {
    case kv_type::f32:
        return std::make_unique<managed_sequences_on<float, vtensor::host_backend>>(backend, shape, options);
    case kv_type::f16:
        return std::make_unique<managed_sequences_on<vtensor::float16, vtensor::host_backend>>(backend, shape,
                                                                                               options);
    case kv_type::bf16:
        return std::make_unique<managed_sequences_on<vtensor::bfloat16, vtensor::host_backend>>(
            backend, shape, options);
    }
    return nullptr;
}

} // namespace decoder
