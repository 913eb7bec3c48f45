// SPDX-License-Identifier: Apache-2.0
//
// One layer of any layout, from the options of a whole cache.
#pragma once

#include <vtensor/core/error.hpp>
#include <vtensor/kv/cache_options.hpp>
#include <vtensor/kv/layer_shape.hpp>
#include <vtensor/tensor/figures.hpp>

namespace vtensor::kv::detail {

/// With room where the layout knows it.
template <class Layer>
[[nodiscard]] result<Layer>
make_layer(typename Layer::pool_type& pool, const layer_shape& shape,
           const cache_options<typename Layer::growth_policy_type>& options) noexcept {
    const tensor_options each{.owner = options.owner};
    if constexpr (requires { Layer::try_create(pool, shape, options.room, options.growth, each); })
        return Layer::try_create(pool, shape, options.room, options.growth, each);
    else
        return Layer::try_create(pool, shape, options.growth, each);
}

} // namespace vtensor::kv::detail
