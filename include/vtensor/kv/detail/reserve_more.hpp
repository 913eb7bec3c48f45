// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace vtensor::kv::detail {

/// Room for `size` elements in all, so that adding them cannot fail. As much as adding them one by one costs,
/// also where it is called for each. Throws where there is no memory.
template <class T>
void reserve_more(std::vector<T>& into, std::size_t size) {
    if (size > into.capacity())
        into.reserve(std::max(size, 2 * into.capacity()));
}

} // namespace vtensor::kv::detail
