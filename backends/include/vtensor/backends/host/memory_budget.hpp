// SPDX-License-Identifier: Apache-2.0
//
// How much physical memory a host backend may take: its capacity, and what the system can spare. It only
// counts; taking and giving back are its owner's.
#pragma once

#include <vtensor/backends/host/available_memory.hpp>
#include <vtensor/core/units.hpp>

#include <algorithm>

namespace vtensor::host {

/// Used by one thread at a time.
class memory_budget {
  public:
    explicit memory_budget(bytes capacity) noexcept : capacity_{capacity} {}

    /// Counts `size` as taken; false, and nothing is counted, where it is not there.
    [[nodiscard]] bool take(bytes size) noexcept {
        if (size > capacity_ - taken_ || !system_has(size))
            return false;
        taken_ += size;
        return true;
    }
    void give_back(bytes size) noexcept { taken_ -= size; }

    [[nodiscard]] bytes taken() const noexcept { return taken_; }
    [[nodiscard]] bytes capacity() const noexcept { return capacity_; }

  private:
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
        unchecked_ = std::min(check_interval, available - keep_free - size);
        return true;
    }

    static constexpr bytes check_interval = 64_MiB;
    static constexpr bytes keep_free = 256_MiB; ///< for the rest of the system

    bytes capacity_;
    bytes taken_{};
    bytes unchecked_{}; ///< may be taken before the system is asked again
};

} // namespace vtensor::host
