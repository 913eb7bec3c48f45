// SPDX-License-Identifier: Apache-2.0
//
// What a manager counts while it works, so that other threads can read it.
#pragma once

#include <vtensor/kv/manager_stats.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace vtensor::kv::detail {

/// Written by one thread, read by any: a counter that needs no locked instruction.
class counter {
  public:
    void add(std::uint64_t amount) noexcept { set(get() + amount); }
    void subtract(std::uint64_t amount) noexcept { set(get() - amount); }
    void set(std::uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

  private:
    std::atomic<std::uint64_t> value_{0};
};

struct verb_counters {
    counter calls;
    counter failures;
    counter nanoseconds;
};

struct manager_counters {
    counter running;
    counter preempted;
    counter tokens;
    counter swapped;
    counter reserved;
    counter prompt_tokens;
    counter matched_tokens;
    counter adopted_tokens;
    counter preemptions;
    std::array<verb_counters, manager_verb_names.size()> verbs;
};

/// Counts and times one call of a verb, which failed unless it is said that it did not.
class timed_call {
  public:
    timed_call(manager_counters& all, manager_verb which) noexcept
        : into_{&all.verbs[static_cast<std::size_t>(which)]} {}
    timed_call(const timed_call&) = delete;
    timed_call& operator=(const timed_call&) = delete;
    ~timed_call() {
        const auto spent = std::chrono::steady_clock::now() - start_;
        into_->calls.add(1);
        into_->failures.add(succeeded_ ? 0 : 1);
        into_->nanoseconds.add(
            static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count()));
    }
    void succeeded() noexcept { succeeded_ = true; }

  private:
    verb_counters* into_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    bool succeeded_ = false;
};

} // namespace vtensor::kv::detail
