// SPDX-License-Identifier: Apache-2.0
//
// The bare system calls that mapping comes down to, without any book-keeping: what the library is measured
// against.
#pragma once

#include <cstddef>
#include <stdexcept>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace vtensor::bench {

/// A memory file of `chunks` filled chunks and addresses for all of them.
class raw_mapping {
  public:
    raw_mapping(std::size_t chunk, std::size_t chunks)
        : chunk_{chunk},
          chunks_{chunks},
          file_{::memfd_create("raw", MFD_CLOEXEC)},
          base_{::mmap(nullptr, chunk * chunks, PROT_NONE, reserved_flags, -1, 0)} {
        if (file_ < 0 || base_ == MAP_FAILED ||
            ::fallocate(file_, 0, 0, static_cast<off_t>(chunk * chunks)) != 0)
            throw std::runtime_error{"no memory for the raw mapping"};
    }
    raw_mapping(const raw_mapping&) = delete;
    raw_mapping& operator=(const raw_mapping&) = delete;
    ~raw_mapping() {
        ::munmap(base_, chunk_ * chunks_);
        ::close(file_);
    }

    void map(std::size_t index) const {
        ::mmap(at(index), chunk_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file_,
               static_cast<off_t>(index * chunk_));
    }
    void unmap(std::size_t index) const {
        ::mmap(at(index), chunk_, PROT_NONE, reserved_flags | MAP_FIXED, -1, 0);
    }

  private:
    static constexpr int reserved_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

    [[nodiscard]] void* at(std::size_t index) const {
        return static_cast<std::byte*>(base_) + index * chunk_;
    }

    std::size_t chunk_;
    std::size_t chunks_;
    int file_;
    void* base_;
};

} // namespace vtensor::bench
