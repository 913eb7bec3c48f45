// SPDX-License-Identifier: Apache-2.0
//
// The physical memory of the host backend: one anonymous file in memory, handed out in ranges. Memory is
// taken from the kernel when a range is allocated, not when it is first touched, so that running out is an
// error code and never a signal. It maps nothing and is not locked.
#pragma once

#include <vtensor/backends/host/available_memory.hpp>
#include <vtensor/backends/host/free_ranges.hpp>
#include <vtensor/backends/host/options.hpp>
#include <vtensor/core/error.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <utility>

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vtensor::host {

/// Owns the file descriptor. At most `capacity` bytes are handed out at once.
class memory_file {
  public:
    /// `flags` as for memfd_create.
    [[nodiscard]] static result<memory_file> open(unsigned flags, bytes capacity) noexcept {
        const int descriptor = ::memfd_create("vtensor", MFD_CLOEXEC | flags);
        if (descriptor < 0)
            return error{errno == ENOMEM ? errc::out_of_memory : errc::unsupported, verb::construct, errno,
                         bytes{}};
        return memory_file{descriptor, capacity};
    }

    memory_file(memory_file&& other) noexcept
        : descriptor_{std::exchange(other.descriptor_, -1)}, capacity_{other.capacity_} {
        VTENSOR_ASSERT(other.allocated_ == bytes{0});
    }
    memory_file& operator=(memory_file&&) = delete;
    ~memory_file() {
        if (descriptor_ >= 0)
            ::close(descriptor_);
    }

    /// A range of the file with memory behind it: its offset.
    [[nodiscard]] result<std::size_t> allocate(bytes size) noexcept {
        if (size > capacity_ - allocated_ || !system_has(size))
            return error{errc::out_of_memory, verb::create, 0, size};
        auto spare = free_ranges::spare_node::allocate();
        if (!spare)
            return error{errc::out_of_memory, verb::create, ENOMEM, size};
        std::size_t offset = end_;
        const bool reused = free_.take(size, offset);
        if (const int failed = call_fallocate(0, offset, size); failed != 0) {
            // A part may have been filled before memory ran out: it goes back before anybody can count it.
            static_cast<void>(call_fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size));
            if (reused)
                free_.give(offset, size, std::move(spare));
            return error{errc::out_of_memory, verb::create, failed, size};
        }
        if (!reused)
            end_ += size.count();
        allocated_ += size;
        return offset;
    }

    /// Returns the memory of a range to the kernel. `spare` was allocated by the caller before, so that
    /// nothing here can fail for want of memory. Where the kernel refuses, the range is free for reuse all
    /// the same.
    int free(std::size_t offset, bytes size, free_ranges::spare_node spare) noexcept {
        const int failed = call_fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size);
        free_.give(offset, size, std::move(spare));
        allocated_ -= size;
        return failed;
    }

    /// Bytes handed out, by our own count.
    [[nodiscard]] bytes allocated() const noexcept { return allocated_; }
    [[nodiscard]] bytes capacity() const noexcept { return capacity_; }

    /// Bytes that the kernel counts for the file: its own figure, not ours.
    [[nodiscard]] bytes resident() const noexcept {
        struct stat file {};
        if (::fstat(descriptor_, &file) != 0)
            return bytes{0};
        return bytes{static_cast<std::size_t>(file.st_blocks) * 512};
    }

    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

  private:
    memory_file(int descriptor, bytes capacity) noexcept : descriptor_{descriptor}, capacity_{capacity} {}

    /// A memory file has no size limit of its own: the kernel would sooner kill a process than refuse. So the
    /// system is asked, not for every chunk, but before each `check_interval` taken.
    [[nodiscard]] bool system_has(bytes size) noexcept {
        if (size < unchecked_) {
            unchecked_ -= size;
            return true;
        }
        const bytes available = available_memory();
        if (available < keep_free || size > available - keep_free)
            return false;
        unchecked_ = std::min(check_interval, (available - keep_free - size));
        return true;
    }

    /// 0, or errno.
    [[nodiscard]] int call_fallocate(int mode, std::size_t offset, bytes size) const noexcept {
        while (::fallocate(descriptor_, mode, static_cast<off_t>(offset), static_cast<off_t>(size.count())) !=
               0) {
            if (errno != EINTR)
                return errno;
        }
        return 0;
    }

    static constexpr bytes check_interval = 64_MiB;
    static constexpr bytes keep_free = 256_MiB; ///< for the rest of the system

    int descriptor_;
    bytes capacity_;
    bytes unchecked_{}; ///< may be taken before the system is asked again
    bytes allocated_{};
    std::size_t end_ = 0;
    free_ranges free_;
};

} // namespace vtensor::host
