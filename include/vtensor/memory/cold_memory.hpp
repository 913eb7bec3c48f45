// SPDX-License-Identifier: Apache-2.0
//
// Takes memory out of the processor's caches, so that what is measured on it next comes from memory. Changes
// no value. For measurements alone.
#pragma once

#include <vtensor/core/units.hpp>

#include <cstddef>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace vtensor::detail {

/// Of a processor without such an instruction that is known here, the caches stay as they are. Touches each
/// page.
inline void cool(const std::byte* start, bytes size) noexcept {
#if defined(__SSE2__)
    constexpr std::size_t line = 64;
    for (std::size_t offset = 0; offset < size.count(); offset += line)
        _mm_clflush(start + offset);
    _mm_mfence();
#else
    static_cast<void>(start);
    static_cast<void>(size);
#endif
}

} // namespace vtensor::detail
