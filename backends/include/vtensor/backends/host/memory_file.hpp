// SPDX-License-Identifier: Apache-2.0
//
// Anonymous files in memory: what host memory is made of. Memory is taken from the kernel when it is asked
// for, not when it is first touched, so that running out is an error code and never a signal. Nothing here
// maps anything or is locked.
#pragma once

#include <vtensor/backends/os/file_descriptor.hpp>
#include <vtensor/core/error.hpp>

#include <cerrno>
#include <cstddef>

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace vtensor::host {

/// An empty memory file, closed on exec; `flags` as for memfd_create. `limit_exceeded` where no descriptor is
/// left, `unsupported` where the kernel has no such files.
[[nodiscard]] inline result<file_descriptor> open_memory_file(unsigned flags, verb where) noexcept {
    file_descriptor made{::memfd_create("vtensor", MFD_CLOEXEC | flags)};
    if (made)
        return made;
    switch (errno) {
    case ENOMEM:
        return error{errc::out_of_memory, where, errno, bytes{}};
    case EMFILE:
    case ENFILE:
        return error{errc::limit_exceeded, where, errno, bytes{}};
    default:
        return error{errc::unsupported, where, errno, bytes{}};
    }
}

namespace detail {

/// 0, or errno.
[[nodiscard]] inline int call_fallocate(int file, int mode, std::size_t offset, bytes size) noexcept {
    while (::fallocate(file, mode, static_cast<off_t>(offset), static_cast<off_t>(size.count())) != 0) {
        if (errno != EINTR)
            return errno;
    }
    return 0;
}

} // namespace detail

/// Returns the memory of a range to the kernel. 0, or errno.
inline int empty_range(const file_descriptor& file, std::size_t offset, bytes size) noexcept {
    return detail::call_fallocate(file.number(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size);
}

/// Takes memory for a range that has none, all of it or none. 0, or errno.
[[nodiscard]] inline int fill_range(const file_descriptor& file, std::size_t offset, bytes size) noexcept {
    const int failed = detail::call_fallocate(file.number(), 0, offset, size);
    if (failed != 0) // a part may have been filled before memory ran out
        static_cast<void>(empty_range(file, offset, size));
    return failed;
}

/// Bytes that the kernel counts for the file: its own figure, not ours. 0 where it gives none.
[[nodiscard]] inline bytes resident_bytes(int file) noexcept {
    struct stat found {};
    return ::fstat(file, &found) == 0 ? bytes{static_cast<std::size_t>(found.st_blocks) * 512} : bytes{0};
}

} // namespace vtensor::host
