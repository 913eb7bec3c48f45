// SPDX-License-Identifier: Apache-2.0
//
// Bytes of pages that are copied whole: by the CPU where it reaches them, on a stream otherwise.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/retiring_range.hpp>

#include <cstring>

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

/// Copies between ranges that do not overlap: queued where `stream` is not null, otherwise done. Without a
/// stream the CPU must reach them.
template <class Pool>
[[nodiscard]] status copy_bytes(Pool& pool, address to, address from, bytes size,
                                [[maybe_unused]] const stream_of<Pool>* stream) noexcept {
    if constexpr (has_streams<Pool>) {
        if (stream != nullptr)
            return pool.backend().copy(to, from, size, *stream);
    }
    std::memcpy(to.to_pointer(), from.to_pointer(), size.count());
    return {};
}

} // namespace vtensor::detail
