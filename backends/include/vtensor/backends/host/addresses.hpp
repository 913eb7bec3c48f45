// SPDX-License-Identifier: Apache-2.0
//
// The system calls on address ranges, each as one function that says what it is for. No book-keeping. All
// return 0 or errno, unless they return an address.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/units.hpp>

#include <cerrno>
#include <cstddef>
#include <limits>

#include <sys/mman.h>
#include <unistd.h>

namespace vtensor::host {

/// The base page of this machine.
[[nodiscard]] inline bytes base_page() noexcept {
    return bytes{static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))};
}

namespace detail {

inline constexpr int reserved_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

[[nodiscard]] constexpr int protection(access_mode allowed) noexcept {
    switch (allowed) {
    case access_mode::none:
        return PROT_NONE;
    case access_mode::read:
        return PROT_READ;
    case access_mode::read_write:
        return PROT_READ | PROT_WRITE;
    }
    return PROT_NONE;
}

} // namespace detail

/// Addresses without memory, aligned; the null address and errno where there are none. Reserves too much and
/// gives the edges back.
[[nodiscard]] inline address reserve_addresses(bytes size, bytes align) noexcept {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max() / 2;
    const bytes slack = align > base_page() ? align : bytes{0};
    if (size.count() > most || slack.count() > most - size.count()) {
        errno = ENOMEM;
        return address{};
    }
    void* const raw = ::mmap(nullptr, (size + slack).count(), PROT_NONE, detail::reserved_flags, -1, 0);
    if (raw == MAP_FAILED)
        return address{};
    const address start{raw};
    const address where{(start.value() + align.count() - 1) / align.count() * align.count()};
    const address end = start + size + slack;
    if (where != start)
        ::munmap(raw, (where - start).count());
    if (where + size != end)
        ::munmap((where + size).to_pointer(), (end - (where + size)).count());
    return where;
}

/// Gives addresses back to the system.
inline int release_addresses(address where, bytes size) noexcept {
    return ::munmap(where.to_pointer(), size.count()) != 0 ? errno : 0;
}

/// Puts a range of a file behind reserved addresses.
inline int install(address where, bytes size, int file, std::size_t offset, access_mode allowed) noexcept {
    const void* const got = ::mmap(where.to_pointer(), size.count(), detail::protection(allowed),
                                   MAP_SHARED | MAP_FIXED, file, static_cast<off_t>(offset));
    return got == MAP_FAILED ? errno : 0;
}

/// Changes what installed addresses allow.
inline int protect(address where, bytes size, access_mode allowed) noexcept {
    return ::mprotect(where.to_pointer(), size.count(), detail::protection(allowed)) != 0 ? errno : 0;
}

/// Takes away what lies behind addresses and keeps them reserved.
inline int make_reserved(address where, bytes size) noexcept {
    const void* const got =
        ::mmap(where.to_pointer(), size.count(), PROT_NONE, detail::reserved_flags | MAP_FIXED, -1, 0);
    return got == MAP_FAILED ? errno : 0;
}

} // namespace vtensor::host
