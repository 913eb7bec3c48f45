// SPDX-License-Identifier: Apache-2.0
//
// What a backend can do, where its type says that it may and the machine decides: one question for every
// backend, whatever it refines.
#pragma once

#include <vtensor/core/concepts.hpp>

namespace vtensor::detail {

/// Whether the CPU may read and write what lies at the backend's addresses.
template <class Backend>
[[nodiscard]] bool reaches_memory([[maybe_unused]] const Backend& backend) noexcept {
    if constexpr (host_visible_backend<Backend>)
        return backend.host_visible();
    return false;
}

/// Whether one chunk may be mapped twice.
template <class Backend>
[[nodiscard]] bool can_alias([[maybe_unused]] const Backend& backend) noexcept {
    if constexpr (aliasing_backend<Backend>)
        return backend.can_alias();
    return false;
}

} // namespace vtensor::detail
