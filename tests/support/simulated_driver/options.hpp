// SPDX-License-Identifier: Apache-2.0
//
// What a simulated machine is made from. The defaults are a strict, well-behaved machine; every deviation
// that real ones show is a switch.
#pragma once

#include <support/simulated_driver/latency.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace vtensor::testing::simulated {

/// Where a context must be current in the calling thread.
enum class context_rule : std::uint8_t {
    documented, ///< where the driver's manual lists CUDA_ERROR_INVALID_CONTEXT: streams, events, copies, info
    everywhere, ///< for the virtual-memory verbs as well
};

/// Who carries out what is queued on streams.
enum class execution : std::uint8_t {
    at_once, ///< the calling thread, at once where nothing holds it up: repeatable
    worker,  ///< a thread of the machine, in its own time
};

/// Misbehaviour that has been seen on some HIP runtime or device. The sources are in the backend's quirk
/// table and in the notes beside each.
struct hip_quirks {
    /// ROCR-Runtime#285: unmapping several mappings in one call succeeds, and their addresses can never be
    /// freed.
    bool unmap_of_several_pins_addresses = false;
    /// The same, on runtimes where the call itself fails.
    bool unmap_of_several_fails = false;
    /// ROCR-Runtime#285 and rocm-systems PR 9360, #2667: a granularity of 4 KiB is reported, and set-access
    /// of mappings that are no multiple of this many bytes fails with "unknown error". 0: all work.
    std::size_t working_granularity = 0;
    /// llama.cpp PR 23900, rocm-systems#2516 and PR 6977: set-access works only from the reservation's first
    /// mapping on.
    bool set_access_only_from_start = false;
    /// openxla/xla PR 46576: access of a peer that is set after the owner's own corrupts the mapping.
    bool peer_access_after_local_corrupts = false;
    /// The memory of what was unmapped returns only when its addresses are freed.
    bool memory_returns_with_addresses = false;
    /// vllm PR 12695: creating more than this at once fails. 0: no limit.
    std::size_t largest_create = 0;
    /// vllm PR 43022: reserving with an alignment fails, without one it works.
    bool reserve_with_alignment_fails = false;
    /// rocm-systems PR 1564: import wants the descriptor's address instead of its value.
    bool import_reads_address = false;
    /// rocm-systems PR 11606: an imported handle's properties say device 0, whatever the memory is on.
    bool imported_location_is_wrong = false;
};

/// What exporting and creating with flags does.
struct sharing_options {
    bool posix_supported = true;     ///< the attribute, and creating with the type
    bool posix_export_fails = false; ///< creating succeeds, exporting fails
    bool fabric_supported = false;
    bool fabric_export_fails = false;
    bool rdma_supported = false;    ///< the attribute
    bool rdma_create_fails = false; ///< the attribute says yes, creating with the flag fails
};

struct machine_options {
    int devices = 1;
    std::string device_name = "Simulated device";
    std::string architecture = "gfx942:sramecc+:xnack-"; ///< HIP only
    int version = 0; ///< as the driver gives it; 0: 13000 for CUDA, 6.3 for HIP
    bool virtual_memory_supported = true;
    bool peers_can_access = true;

    std::size_t capacity = std::size_t{1} << 30; ///< bytes of physical memory of each device
    std::size_t minimum_granularity = std::size_t{2} << 20;
    std::size_t recommended_granularity = std::size_t{2} << 20;
    std::size_t default_alignment = 0;       ///< of reservations; 0: the minimum granularity
    std::size_t address_limit = 0;           ///< bytes that may be reserved at once; 0: what Linux gives
    std::size_t max_accessible_mappings = 0; ///< beyond it set-access says out of memory; 0: no ceiling

    context_rule contexts = context_rule::documented;
    execution streams = execution::at_once;
    /// Waiting for work that nobody lets run ends after this time, as a violation: a test must not hang.
    std::chrono::milliseconds longest_wait{10'000};
    sharing_options sharing{};
    hip_quirks quirks{};
    latencies latency{}; ///< off unless one of the published tables is put here
};

} // namespace vtensor::testing::simulated
