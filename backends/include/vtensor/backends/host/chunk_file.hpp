// SPDX-License-Identifier: Apache-2.0
//
// A chunk that is a memory file of its own, so that it can be handed to another process alone. The file is
// sealed: it never shrinks, which would make touching its memory a SIGBUS, and nobody can seal it further.
// What another process hands in is believed only as far as the kernel vouches for it.
#pragma once

#include <vtensor/backends/host/memory_file.hpp>
#include <vtensor/backends/os/file_descriptor.hpp>
#include <vtensor/core/error.hpp>

#include <cerrno>
#include <cstddef>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace vtensor::host {

/// The seals that every chunk's file has. Not one against writing: its memory is to be written.
inline constexpr int chunk_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

/// A sealed file of exactly `size` bytes with all its memory; `flags` as for memfd_create.
[[nodiscard]] inline result<file_descriptor> create_chunk_file(unsigned flags, bytes size,
                                                               verb where) noexcept {
    auto made = open_memory_file(flags | MFD_ALLOW_SEALING, where);
    if (!made)
        return made;
    if (::ftruncate(made->number(), static_cast<off_t>(size.count())) != 0)
        return error{errc::out_of_memory, where, errno, size};
    if (const int failed = size != bytes{0} ? fill_range(*made, 0, size) : 0; failed != 0)
        return error{errc::out_of_memory, where, failed, size};
    if (::fcntl(made->number(), F_ADD_SEALS, chunk_seals) != 0)
        return error{errc::unsupported, where, errno, size};
    return made;
}

/// Whether a descriptor from elsewhere is the file of a chunk of `size` bytes that a backend of this
/// granularity can map. `foreign_handle` for what is no memory file, is not sealed as ours are, is sealed
/// against writing or not open for it, lacks a part of its memory, or has pages larger than the granularity;
/// `size_mismatch` for a file of another size.
[[nodiscard]] inline status check_chunk_file(int file, bytes size, bytes granularity) noexcept {
    const auto foreign = [&](int native) {
        return error{errc::foreign_handle, verb::import_chunk, native, size};
    };
    const int seals = ::fcntl(file, F_GET_SEALS); // only regular files in memory have any
    if (seals < 0)
        return foreign(errno);
    constexpr int against_writing = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
    if ((seals & chunk_seals) != chunk_seals || (seals & against_writing) != 0)
        return foreign(0);
    const int opened = ::fcntl(file, F_GETFL);
    struct stat found {};
    struct statfs system {};
    if (opened < 0 || ::fstat(file, &found) != 0 || ::fstatfs(file, &system) != 0)
        return foreign(errno);
    if ((opened & O_ACCMODE) != O_RDWR)
        return foreign(0);
    // Both now fixed by the seals.
    const bytes has{static_cast<std::size_t>(found.st_size)};
    const bytes page{static_cast<std::size_t>(system.f_bsize)};
    if (has != size)
        return error{errc::size_mismatch, verb::import_chunk, 0, has};
    if (page == bytes{0} || granularity % page != bytes{0} || resident_bytes(file) < size)
        return foreign(0);
    return {};
}

} // namespace vtensor::host
