// SPDX-License-Identifier: Apache-2.0
#include "model/make_kv_cache.hpp"

#include <vtensor/backends/cuda.hpp>

namespace decoder {

template std::unique_ptr<kv_cache> make_kv_cache(vtensor::cuda_backend& backend, const kv_shape& shape,
                                                 const kv_options& options);

} // namespace decoder
