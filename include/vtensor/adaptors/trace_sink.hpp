// SPDX-License-Identifier: Apache-2.0
//
// What a traced call looks like, what takes it, and the sink that keeps events in memory. The sink that
// writes a file is in chrome_trace_sink.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

namespace vtensor::adaptors {

/// One call of a verb, after it returned: of `reserve` the address that was reserved, of `create` the number
/// that the chunk goes by from now on; see call.hpp.
struct trace_event {
    verb what = verb::none;
    address where{};
    bytes size{};
    std::uint64_t chunk = 0;
    access_mode allowed = access_mode::none;
    errc outcome = errc::ok;
    std::chrono::steady_clock::time_point start{};
    std::chrono::steady_clock::duration duration{};
    std::thread::id thread{};
};

/// Takes events from any thread. What it cannot keep it drops: a trace never makes a verb fail.
template <class S>
concept trace_sink = requires(S& sink, const trace_event& event) {
    { sink.record(event) }
    noexcept->std::same_as<void>;
};

/// Keeps every event, in the order of completion. Thread-safe.
class memory_sink {
  public:
    void record(const trace_event& event) noexcept {
        const std::lock_guard lock{mutex_};
        try {
            events_.push_back(event);
        } catch (const std::bad_alloc&) {
            ++dropped_;
        }
    }

    /// A copy of the events so far.
    [[nodiscard]] std::vector<trace_event> events() const {
        const std::lock_guard lock{mutex_};
        return events_;
    }
    /// Events for which there was no memory.
    [[nodiscard]] std::size_t dropped() const noexcept {
        const std::lock_guard lock{mutex_};
        return dropped_;
    }
    void clear() noexcept {
        const std::lock_guard lock{mutex_};
        events_.clear();
        dropped_ = 0;
    }

  private:
    mutable std::mutex mutex_;
    std::vector<trace_event> events_;
    std::size_t dropped_ = 0;
};
static_assert(trace_sink<memory_sink>);

} // namespace vtensor::adaptors
