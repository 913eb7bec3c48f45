// SPDX-License-Identifier: Apache-2.0
//
// A simulated machine: devices, a driver that is as strict as the manuals, and everything a test wants to ask
// of it or do to it. Make a `simulated_cuda` or a `simulated_hip`, and give their `driver()` to a backend.
#pragma once

#include <support/simulated_driver/stream_verbs.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

namespace vtensor::testing::simulated {

class machine : public stream_verbs {
  public:
    /// What is alive now.
    [[nodiscard]] leak_report leaks() {
        const std::lock_guard lock{mutex_};
        leak_report alive;
        alive.reserved_bytes = addresses_.reserved_bytes();
        for (const auto& [where, one] : addresses_.reservations()) {
            alive.reservations += one.plain ? 0u : 1u;
            alive.plain_allocations += one.plain ? 1u : 0u;
            alive.mappings += one.plain ? 0u : one.mappings.size();
        }
        alive.handles = physical_.handle_count();
        alive.handle_references = physical_.reference_count();
        for (int device = 0; device < options_.devices; ++device)
            alive.physical_bytes += physical_.used(device);
        alive.exported_memories = physical_.exported_only();
        alive.contexts = contexts_.retained();
        alive.pushed_contexts = contexts_.pushed();
        alive.streams = streams_.live_streams();
        alive.events = streams_.live_events();
        alive.queued_operations = streams_.queued();
        return alive;
    }

    /// Bytes of physical memory in use on a device.
    [[nodiscard]] std::size_t physical_bytes(int device = 0) {
        const std::lock_guard lock{mutex_};
        return physical_.used(device);
    }
    [[nodiscard]] std::size_t mapping_count() const {
        const std::lock_guard lock{mutex_};
        return addresses_.mapping_count();
    }
    /// Bytes of a range that are mapped, and that a device may read and write.
    [[nodiscard]] std::size_t mapped_bytes(const void* where, std::size_t size) {
        return count_bytes(where, size, [](const mapping&) { return true; });
    }
    [[nodiscard]] std::size_t accessible_bytes(const void* where, std::size_t size, int device = 0) {
        return count_bytes(where, size, [device](const mapping& one) {
            const auto granted = one.access.find(device);
            return !one.corrupt && granted != one.access.end() && granted->second == may_write;
        });
    }

  protected:
    using stream_verbs::stream_verbs;
    ~machine() = default;

  private:
    template <class Wanted>
    [[nodiscard]] std::size_t count_bytes(const void* where, std::size_t size, Wanted wanted) {
        const std::lock_guard lock{mutex_};
        const auto start = reinterpret_cast<std::uintptr_t>(where);
        std::size_t sum = 0;
        for (const auto& [reserved, one] : addresses_.reservations()) {
            for (const auto& [first, mapped] : one.mappings) {
                const std::uintptr_t from = std::max(first, start);
                const std::uintptr_t to = std::min(first + mapped.size, start + size);
                sum += from < to && wanted(mapped) ? to - from : 0;
            }
        }
        return sum;
    }
};

/// Driver faults in the shape that `for_each_failing_call` takes: fails calls of the driver, whatever `errc`
/// it names, with one native code.
class driver_faults {
  public:
    explicit driver_faults(machine& of, int native = code::out_of_memory, call_predicate counted = {})
        : machine_{of}, native_{native}, counted_{std::move(counted)} {}

    template <class Code>
    void fail_calls(std::size_t first, std::size_t length, Code) {
        machine_.fail_calls(first, length, native_, counted_);
    }
    [[nodiscard]] std::size_t failures() const noexcept { return machine_.failures(); }
    std::size_t disarm() noexcept { return machine_.disarm(); }

  private:
    machine& machine_;
    int native_;
    call_predicate counted_;
};

} // namespace vtensor::testing::simulated
