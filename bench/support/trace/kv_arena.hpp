// SPDX-License-Identifier: Apache-2.0
//
// Memory that is taken from the system as a whole and before anything runs, as engines without virtual memory
// management do: one chunk of the host backend, mapped once.
#pragma once

#include <vtensor/backends/host.hpp>
#include <vtensor/core/exception.hpp>

#include <cstddef>

namespace vtensor::bench {

/// Throws what the backend refuses. Neither copied nor moved.
class kv_arena {
  public:
    explicit kv_arena(bytes size)
        : size_{round_up(size, memory_.granularity())}, start_{memory_.reserve(size_, bytes{0}).value()} {
        const host_chunk all = memory_.create(size_).value();
        throw_if_failed(memory_.map(start_, all));
        throw_if_failed(memory_.destroy(all)); // it lives as long as its mapping
        throw_if_failed(memory_.set_access(start_, size_, access_mode::read_write));
        physical_ = memory_.kernel_physical_bytes();
    }
    kv_arena(const kv_arena&) = delete;
    kv_arena& operator=(const kv_arena&) = delete;
    ~kv_arena() { static_cast<void>(memory_.unmap(start_, size_)); }

    [[nodiscard]] std::byte* at(bytes offset) const noexcept {
        return (start_ + offset).to_pointer<std::byte>();
    }
    /// By the kernel's count.
    [[nodiscard]] bytes physical() const noexcept { return physical_; }

  private:
    host_backend memory_;
    bytes size_;
    address start_;
    bytes physical_{};
};

} // namespace vtensor::bench
