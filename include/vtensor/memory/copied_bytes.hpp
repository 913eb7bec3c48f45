// SPDX-License-Identifier: Apache-2.0
//
// Bytes of pages that are copied whole: by the CPU where it reaches them, on a stream otherwise.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/retiring_range.hpp>

#include <cstring>

namespace vtensor::detail {

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
