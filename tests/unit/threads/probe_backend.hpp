// SPDX-License-Identifier: Apache-2.0
//
// A host backend that tells which thread mapped, and can be made slow, so that a test knows that a mapping is
// in flight while it does something else.
#pragma once

#include <vtensor/backends/host.hpp>
#include <vtensor/core/concepts.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <thread>

namespace vtensor::testing {

/// Thread-safe. The thread that makes it is the owner.
class probe_backend {
  public:
    using chunk_type = host_chunk;

    /// How long each `map` of a thread that is not the owner takes.
    std::atomic<std::chrono::microseconds::rep> delay_us{0};

    [[nodiscard]] std::size_t maps_by_owner() const noexcept { return by_owner_; }
    [[nodiscard]] std::size_t maps_by_others() const noexcept { return by_others_; }
    /// True while a thread that is not the owner is inside `map`.
    [[nodiscard]] bool in_flight() const noexcept { return in_flight_ != 0; }
    [[nodiscard]] const host_backend& host() const noexcept { return host_; }

    [[nodiscard]] bytes granularity() const noexcept { return host_.granularity(); }
    [[nodiscard]] result<address> reserve(bytes size, bytes align) noexcept {
        return host_.reserve(size, align);
    }
    [[nodiscard]] status release(address where, bytes size) noexcept { return host_.release(where, size); }
    [[nodiscard]] result<host_chunk> create(bytes size) noexcept { return host_.create(size); }
    [[nodiscard]] status destroy(host_chunk chunk) noexcept { return host_.destroy(chunk); }
    [[nodiscard]] status map(address where, host_chunk chunk) noexcept {
        if (std::this_thread::get_id() == owner_) {
            ++by_owner_;
            return host_.map(where, chunk);
        }
        ++in_flight_;
        ++by_others_;
        if (delay_us != 0)
            std::this_thread::sleep_for(std::chrono::microseconds{delay_us});
        const status outcome = host_.map(where, chunk);
        --in_flight_;
        return outcome;
    }
    [[nodiscard]] status set_access(address where, bytes size, vtensor::access_mode allowed) noexcept {
        return host_.set_access(where, size, allowed);
    }
    [[nodiscard]] status unmap(address where, bytes size) noexcept { return host_.unmap(where, size); }

  private:
    host_backend host_;
    const std::thread::id owner_ = std::this_thread::get_id();
    std::atomic<std::size_t> by_owner_{0};
    std::atomic<std::size_t> by_others_{0};
    std::atomic<int> in_flight_{0};
};
static_assert(backend<probe_backend>);

/// Waits for something another thread brings about; false after ten seconds.
template <class Condition>
[[nodiscard]] bool eventually(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{10};
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline)
            return false;
        std::this_thread::yield();
    }
    return true;
}

} // namespace vtensor::testing
