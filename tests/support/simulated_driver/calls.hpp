// SPDX-License-Identifier: Apache-2.0
//
// What was called: the entries of the driver under one name for CUDA and HIP, the log of calls, and the calls
// that a test wants to fail.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace vtensor::testing::simulated {

// One line for each entry. HIP's own names go to the twin's: hipMalloc is mem_alloc, hipMemsetAsync is
// memset.
#define VTENSOR_SIMULATED_ENTRIES(ENTRY)                                                                     \
    ENTRY(init)                                                                                              \
    ENTRY(version)                                                                                           \
    ENTRY(get_error_text)                                                                                    \
    ENTRY(get_last_error)                                                                                    \
    ENTRY(device_get_count)                                                                                  \
    ENTRY(device_get)                                                                                        \
    ENTRY(device_get_name)                                                                                   \
    ENTRY(device_get_attribute)                                                                              \
    ENTRY(device_get_properties)                                                                             \
    ENTRY(device_total_mem)                                                                                  \
    ENTRY(device_can_access_peer)                                                                            \
    ENTRY(device_get_uuid)                                                                                   \
    ENTRY(primary_ctx_retain)                                                                                \
    ENTRY(primary_ctx_release)                                                                               \
    ENTRY(ctx_get_current)                                                                                   \
    ENTRY(ctx_push_current)                                                                                  \
    ENTRY(ctx_pop_current)                                                                                   \
    ENTRY(ctx_get_device)                                                                                    \
    ENTRY(set_device)                                                                                        \
    ENTRY(get_device)                                                                                        \
    ENTRY(mem_get_allocation_granularity)                                                                    \
    ENTRY(mem_address_reserve)                                                                               \
    ENTRY(mem_address_free)                                                                                  \
    ENTRY(mem_create)                                                                                        \
    ENTRY(mem_release)                                                                                       \
    ENTRY(mem_map)                                                                                           \
    ENTRY(mem_unmap)                                                                                         \
    ENTRY(mem_set_access)                                                                                    \
    ENTRY(mem_get_access)                                                                                    \
    ENTRY(mem_export)                                                                                        \
    ENTRY(mem_import)                                                                                        \
    ENTRY(mem_retain)                                                                                        \
    ENTRY(mem_get_properties)                                                                                \
    ENTRY(mem_get_info)                                                                                      \
    ENTRY(mem_alloc)                                                                                         \
    ENTRY(mem_free)                                                                                          \
    ENTRY(memcpy_async)                                                                                      \
    ENTRY(memset_async)                                                                                      \
    ENTRY(stream_create)                                                                                     \
    ENTRY(stream_destroy)                                                                                    \
    ENTRY(stream_synchronize)                                                                                \
    ENTRY(stream_query)                                                                                      \
    ENTRY(stream_wait_event)                                                                                 \
    ENTRY(event_create)                                                                                      \
    ENTRY(event_destroy)                                                                                     \
    ENTRY(event_record)                                                                                      \
    ENTRY(event_query)                                                                                       \
    ENTRY(event_synchronize)

#define VTENSOR_SIMULATED_NAME(name) name,
enum class entry : std::uint8_t { VTENSOR_SIMULATED_ENTRIES(VTENSOR_SIMULATED_NAME) };
#undef VTENSOR_SIMULATED_NAME

#define VTENSOR_SIMULATED_NAME(name) #name,
inline constexpr std::string_view entry_names[] = {VTENSOR_SIMULATED_ENTRIES(VTENSOR_SIMULATED_NAME)};
#undef VTENSOR_SIMULATED_NAME
inline constexpr std::size_t entry_count = std::size(entry_names);

[[nodiscard]] constexpr std::string_view name(entry which) noexcept {
    return entry_names[static_cast<std::size_t>(which)];
}

/// One call as it arrived. What an entry has no argument for stays 0; `context_device` is the device of the
/// context that was current in the calling thread, -1 where none was.
struct call {
    entry what{};
    std::uintptr_t where = 0;
    std::size_t size = 0;     ///< bytes
    std::uint64_t object = 0; ///< memory handle, stream, event or context
    std::size_t count = 0;    ///< of access descriptors
    int device = -1;
    int context_device = -1;
    std::thread::id thread{};
    int result = 0;
};

/// How often each entry was called, and the calls one by one. Not synchronised: the machine's lock is held.
class call_log {
  public:
    /// Calls beyond these are counted but not kept.
    static constexpr std::size_t most_kept = 65'536;

    /// Makes room for one call: throws before anything has happened.
    void prepare() {
        if (calls_.size() < most_kept && calls_.size() == calls_.capacity())
            calls_.reserve(calls_.capacity() * 2 + 64);
    }
    void add(const call& made) noexcept {
        ++counts_[static_cast<std::size_t>(made.what)];
        if (calls_.size() < calls_.capacity() && calls_.size() < most_kept)
            calls_.push_back(made);
    }
    void clear() noexcept {
        counts_ = {};
        calls_.clear();
    }
    [[nodiscard]] std::size_t count(entry which) const noexcept {
        return counts_[static_cast<std::size_t>(which)];
    }
    [[nodiscard]] std::size_t total() const noexcept {
        std::size_t sum = 0;
        for (const std::size_t count : counts_)
            sum += count;
        return sum;
    }
    [[nodiscard]] const std::vector<call>& calls() const noexcept { return calls_; }

  private:
    std::array<std::size_t, entry_count> counts_{};
    std::vector<call> calls_;
};

/// Which calls a fault counts. None given: all.
using call_predicate = std::function<bool(const call&)>;

/// The calls that fail although nothing is wrong. Not synchronised: the machine's lock is held.
class fault_plan {
  public:
    /// From now on, of the calls that `counted` likes, numbers first … first + length - 1, counted from 1,
    /// have no effect and give `native`.
    void arm(std::size_t first, std::size_t length, int native, call_predicate counted) {
        counted_ = std::move(counted);
        next_ = 1;
        first_ = first;
        end_ = first + length < first ? static_cast<std::size_t>(-1) : first + length;
        native_ = native;
        failures_ = 0;
    }
    /// Nothing fails any more. How many calls did.
    std::size_t disarm() noexcept {
        first_ = end_ = 0;
        return failures_;
    }
    [[nodiscard]] std::size_t failures() const noexcept { return failures_; }

    /// The code that this call has to fail with, or 0.
    [[nodiscard]] int failure_of(const call& made) {
        if (first_ == end_ || (counted_ && !counted_(made)))
            return 0;
        const std::size_t number = next_++;
        if (number < first_ || number >= end_)
            return 0;
        ++failures_;
        return native_;
    }

  private:
    call_predicate counted_;
    std::size_t next_ = 1;
    std::size_t first_ = 0;
    std::size_t end_ = 0;
    std::size_t failures_ = 0;
    int native_ = 0;
};

} // namespace vtensor::testing::simulated
