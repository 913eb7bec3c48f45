// SPDX-License-Identifier: Apache-2.0
//
// One layer of any layout, from the options of a whole cache, and what it takes.
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

/// What such a layer has mapped for so many rows a head that were appended at once, none of them evicted.
template <class Layer>
[[nodiscard]] bytes pages_of_layer(const layer_shape& shape,
                                   const cache_options<typename Layer::growth_policy_type>& options,
                                   bytes page, std::size_t rows) noexcept {
    if constexpr (requires { Layer::pages_of(shape, page, rows, options.room); })
        return Layer::pages_of(shape, page, rows, options.room);
    else
        return Layer::pages_of(shape, page, rows);
}

} // namespace vtensor::kv::detail
