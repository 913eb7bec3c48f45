// SPDX-License-Identifier: Apache-2.0
//
// The part of the HIP runtime's binary interface that the library uses, declared here so that nothing of ROCm
// is needed to build it. Enumerations are `int`, which is how they are passed. Two things depend on the
// version of the runtime: the order of the members of hipMemAllocationProp, and one attribute's number. A
// test compares every size, offset and number with <hip/hip_runtime_api.h> where that is installed.
// docs/adr/0007 says why.
#pragma once

#include <cstddef>

// The runtime's own opaque types under their own names: a caller's hipStream_t and hipEvent_t are the types
// below.
struct ihipEvent_t;
struct ihipMemGenericAllocationHandle;
struct ihipStream_t;

namespace vtensor::hip::abi {

using device = int;                                        ///< hipDevice_t, the ordinal
using device_pointer = void*;                              ///< hipDeviceptr_t
using allocation_handle = ihipMemGenericAllocationHandle*; ///< hipMemGenericAllocationHandle_t
using event = ihipEvent_t*;                                ///< hipEvent_t
using stream = ihipStream_t*;                              ///< hipStream_t

/// hipError_t.
namespace code {
inline constexpr int success = 0;
inline constexpr int invalid_value = 1;
inline constexpr int out_of_memory = 2;
inline constexpr int not_initialized = 3;
inline constexpr int deinitialized = 4;
inline constexpr int no_device = 100;
inline constexpr int invalid_device = 101;
inline constexpr int invalid_context = 201;
inline constexpr int operating_system = 304;
inline constexpr int invalid_handle = 400;
inline constexpr int illegal_state = 401;
inline constexpr int not_found = 500;
inline constexpr int not_ready = 600;
inline constexpr int illegal_address = 700;
inline constexpr int context_is_destroyed = 709;
inline constexpr int launch_failure = 719;
inline constexpr int not_supported = 801;
inline constexpr int unknown = 999;
inline constexpr int runtime_memory = 1052;
} // namespace code

/// A version as hipRuntimeGetVersion gives it: major × 10,000,000 + minor × 100,000 + patch.
[[nodiscard]] constexpr int version(int major, int minor, int patch = 0) noexcept {
    return major * 10'000'000 + minor * 100'000 + patch;
}

/// hipDeviceAttribute_t.
namespace attribute {
inline constexpr int compute_capability_major = 23;

/// hipDeviceAttributeVirtualMemoryManagementSupported, or 0 where only trying tells: HIP 5.2 has the verbs
/// but not the attribute, and the headers of 6.0.0 count one more enumerator before it than those of 6.0.2.
[[nodiscard]] constexpr int virtual_memory_management(int runtime_version) noexcept {
    const bool unsure = runtime_version >= version(6, 0) && runtime_version < version(6, 1);
    return runtime_version < version(5, 3) || unsure ? 0 : 89;
}
} // namespace attribute

/// hipMemAllocationType.
namespace allocation_type {
inline constexpr int pinned = 1;
} // namespace allocation_type

/// hipMemLocationType.
namespace location_type {
inline constexpr int device = 1;
} // namespace location_type

/// hipMemAllocationHandleType.
namespace handle_type {
inline constexpr int none = 0;
inline constexpr int posix_descriptor = 1;
inline constexpr int fabric = 8; ///< known to runtimes later than ROCm 7.2 only
} // namespace handle_type

/// hipMemAllocationGranularity_flags.
namespace granularity {
inline constexpr int minimum = 0;
inline constexpr int recommended = 1;
} // namespace granularity

/// hipMemAccessFlags.
namespace access_flags {
inline constexpr int none = 0;
inline constexpr int read = 1;
inline constexpr int read_write = 3;
} // namespace access_flags

/// hipMemcpyKind.
namespace memcpy_kind {
inline constexpr int device_to_device = 3;
inline constexpr int by_address = 4; ///< hipMemcpyDefault
} // namespace memcpy_kind

/// Flags of hipStreamCreateWithFlags.
namespace stream_flags {
inline constexpr unsigned standard = 0;
inline constexpr unsigned non_blocking = 1;
} // namespace stream_flags

/// Flags of hipEventCreateWithFlags.
namespace event_flags {
inline constexpr unsigned standard = 0;
inline constexpr unsigned disable_timing = 2;
} // namespace event_flags

/// hipMemLocation.
struct location {
    int type = 0;
    int id = 0;

    friend constexpr bool operator==(const location&, const location&) noexcept = default;
};

/// hipMemAllocationProp of HIP 5.3 and later: what memory is created with.
struct allocation_prop {
    int type = 0;
    int requested_handle_type = 0;
    abi::location location{};
    void* win32_handle_meta_data = nullptr;
    struct {
        unsigned char compression_type = 0;
        unsigned char gpu_direct_rdma_capable = 0;
        unsigned short usage = 0;
    } flags;
};

/// hipMemAllocationProp of HIP 5.2: other members in another order, in as many bytes.
struct allocation_prop_5_2 {
    unsigned char compression_type = 0;
    abi::location location{};
    int requested_handle_type = 0;
    int type = 0;
    unsigned short usage = 0;
    void* win32_handle_meta_data = nullptr;
};
static_assert(sizeof(allocation_prop) == sizeof(allocation_prop_5_2));

/// The first runtime version that reads `allocation_prop`; the ones before read `allocation_prop_5_2`.
inline constexpr int first_with_allocation_prop = version(5, 3);

/// hipMemAccessDesc: what one device may do.
struct access_desc {
    abi::location location{};
    int flags = 0;
};

/// hipUUID.
struct uuid {
    char bytes[16] = {};
};

/// hipDeviceProp_tR0600, which hipGetDevicePropertiesR0600 (HIP 6.0 and later) fills: the name of the layout
/// is the name of the entry. Only the architecture is read, "gfx942:sramecc+:xnack-".
struct device_prop_r0600 {
    alignas(std::max_align_t) char before[1160] = {};
    char gcn_arch_name[256] = {};
    char after[56] = {};
    char reserve[4096] = {}; ///< so that a runtime that writes more than it should does no harm
};

/// hipDeviceProp_t of HIP 5, which hipGetDeviceProperties fills.
struct device_prop_r0000 {
    alignas(std::max_align_t) char before[396] = {};
    char gcn_arch_name[256] = {};
    char after[140] = {};
    char reserve[4096] = {};
};

} // namespace vtensor::hip::abi
