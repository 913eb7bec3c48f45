// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA and the HIP backend have in common for a user: the handle of a chunk, what may be asked for
// at construction, and the report of what was found. Plain data.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace vtensor {

/// A piece of physical memory of one device backend. The default value is no chunk.
struct device_chunk {
    std::uint32_t index = 0;
    std::uint32_t generation = 0; ///< 0 is never given out; the handle of a destroyed chunk stays invalid

    friend constexpr bool operator==(device_chunk, device_chunk) noexcept = default;
};

/// Which of the two units that a driver names is the granularity.
enum class granularity_choice : std::uint8_t { minimum, recommended };

/// How chunks may be passed to other processes. A chunk is made for it when it is created, so it is chosen
/// for the whole backend.
enum class sharing_wish : std::uint8_t {
    none,
    descriptor,           ///< POSIX descriptors, between processes of one machine
    fabric,               ///< fabric handles, between machines
    fabric_or_descriptor, ///< the first of the two that works
};

/// A reservation in which something was mapped or unmapped: what was registered of it elsewhere (NCCL, RDMA,
/// IPC) is stale.
struct remap_event {
    address reservation; ///< where it starts
    bytes size{};        ///< of the whole reservation
    std::uint64_t epoch = 0;
};

/// Called after the verb has done its work and let go of the backend's lock, by the thread that called the
/// verb; it may call the backend. Two threads that remap at once may be heard in either order: the epoch
/// tells. It must not throw.
using remap_callback = std::function<void(const remap_event&)>;

/// One thing that a driver or a device may be able to do. Where it is off, `reason` says why; where it is on,
/// it may say how well.
struct device_feature {
    bool on = false;
    std::string reason = "not asked for";
};

/// What construction found out.
struct device_report {
    std::string driver;       ///< "CUDA driver 13.0"
    std::string name;         ///< of the device
    std::string architecture; ///< "9.0", "gfx942"
    int ordinal = 0;
    bytes memory{};      ///< of the device, 0 where the driver does not say
    bytes minimum{};     ///< granularity as the driver says
    bytes recommended{}; ///< granularity as the driver says
    bytes granularity{}; ///< in use
    std::string quirks;  ///< what is done differently for this driver and device, empty where nothing is

    device_feature virtual_memory;  ///< off: addresses are plain allocations of the reserved size
    device_feature aliasing;        ///< one chunk at two addresses
    device_feature read_only;       ///< off: `access_mode::read` also lets write
    device_feature revocation;      ///< off: access is taken away by mapping anew
    device_feature descriptors;     ///< chunks are exported as POSIX descriptors
    device_feature fabric;          ///< chunks are exported as fabric handles
    device_feature gpu_direct_rdma; ///< chunks may be registered for RDMA
};

/// The report as lines for a person.
[[nodiscard]] inline std::string to_string(const device_report& found) {
    const auto feature = [](const char* what, const device_feature& is) {
        std::string line = std::string{"\n  "} + what + (is.on ? ": on" : ": off");
        return is.reason.empty() ? line : line + " (" + is.reason + ')';
    };
    std::string text = found.driver + ", device " + std::to_string(found.ordinal) + ' ' + found.name;
    if (!found.architecture.empty())
        text += " (" + found.architecture + ')';
    if (found.memory != bytes{0})
        text += ", " + to_string(found.memory);
    text += "\n  granularity: " + to_string(found.granularity) + " (minimum " + to_string(found.minimum) +
            ", recommended " + to_string(found.recommended) + ')';
    text += feature("virtual memory", found.virtual_memory) + feature("aliasing", found.aliasing) +
            feature("read-only access", found.read_only) + feature("revocation", found.revocation) +
            feature("export by descriptor", found.descriptors) +
            feature("export by fabric handle", found.fabric) +
            feature("GPUDirect RDMA", found.gpu_direct_rdma);
    if (!found.quirks.empty())
        text += "\n  quirks: " + found.quirks;
    return text;
}

} // namespace vtensor
