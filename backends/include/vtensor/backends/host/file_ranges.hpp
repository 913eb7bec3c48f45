// SPDX-License-Identifier: Apache-2.0
//
// One memory file handed out in ranges: where the chunks of a host backend lie that nobody exports. It maps
// nothing and is not locked.
#pragma once

#include <vtensor/backends/host/free_ranges.hpp>
#include <vtensor/backends/host/memory_file.hpp>
#include <vtensor/core/error.hpp>

#include <cerrno>
#include <cstddef>
#include <utility>

namespace vtensor::host {

/// Owns the file. The caller counts how much is handed out.
class file_ranges {
  public:
    explicit file_ranges(file_descriptor&& file) noexcept : file_{std::move(file)} {}

    /// A range of the file with memory behind it: its offset.
    [[nodiscard]] result<std::size_t> allocate(bytes size) noexcept {
        auto spare = free_ranges::spare_node::allocate();
        if (!spare)
            return error{errc::out_of_memory, verb::create, ENOMEM, size};
        std::size_t offset = end_;
        const bool reused = free_.take(size, offset);
        if (const int failed = fill_range(file_, offset, size); failed != 0) {
            if (reused)
                free_.give(offset, size, std::move(spare));
            return error{errc::out_of_memory, verb::create, failed, size};
        }
        if (!reused)
            end_ += size.count();
        return offset;
    }

    /// Returns the memory of a range to the kernel. `spare` was allocated by the caller before, so that
    /// nothing here can fail for want of memory. Where the kernel refuses, the range is free for reuse all
    /// the same.
    void free(std::size_t offset, bytes size, free_ranges::spare_node spare) noexcept {
        static_cast<void>(empty_range(file_, offset, size));
        free_.give(offset, size, std::move(spare));
    }

    /// -1 where there is none.
    [[nodiscard]] int descriptor() const noexcept { return file_.number(); }

  private:
    file_descriptor file_;
    std::size_t end_ = 0;
    free_ranges free_;
};

} // namespace vtensor::host
