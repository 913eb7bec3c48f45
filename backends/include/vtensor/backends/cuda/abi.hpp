// SPDX-License-Identifier: Apache-2.0
//
// The part of the CUDA driver's binary interface that the library uses, declared here so that nothing of the
// toolkit is needed to build it. Enumerations are `int`, which is how they are passed. A test compares every
// size, offset and number with <cuda.h> where that is installed. docs/adr/0007 says why.
#pragma once

#include <cstddef>

// The driver's own opaque types under their own names: a caller's CUstream, cudaStream_t, CUevent and
// CUcontext are the types below.
struct CUctx_st;
struct CUevent_st;
struct CUstream_st;

namespace vtensor::cuda::abi {

using device = int;                           ///< CUdevice, and the ordinal it was made from
using device_pointer = unsigned long long;    ///< CUdeviceptr
using allocation_handle = unsigned long long; ///< CUmemGenericAllocationHandle
using context = CUctx_st*;                    ///< CUcontext
using event = CUevent_st*;                    ///< CUevent
using stream = CUstream_st*;                  ///< CUstream

/// CUresult.
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
inline constexpr int launch_failed = 719;
inline constexpr int not_permitted = 800;
inline constexpr int not_supported = 801;
inline constexpr int unknown = 999;
} // namespace code

/// CUdevice_attribute.
namespace attribute {
inline constexpr int compute_capability_major = 75;
inline constexpr int compute_capability_minor = 76;
inline constexpr int virtual_memory_management = 102;
inline constexpr int posix_descriptor_handles = 103;
inline constexpr int gpu_direct_rdma_with_vmm = 110;
inline constexpr int fabric_handles = 128; ///< known to drivers of CUDA 12.4 and later
} // namespace attribute

/// CUmemAllocationType.
namespace allocation_type {
inline constexpr int pinned = 1;
} // namespace allocation_type

/// CUmemLocationType.
namespace location_type {
inline constexpr int device = 1;
} // namespace location_type

/// CUmemAllocationHandleType: bits, which may be joined when memory is created.
namespace handle_type {
inline constexpr int none = 0;
inline constexpr int posix_descriptor = 1;
inline constexpr int fabric = 8;
} // namespace handle_type

/// CUmemAllocationGranularity_flags.
namespace granularity {
inline constexpr int minimum = 0;
inline constexpr int recommended = 1;
} // namespace granularity

/// CUmemAccess_flags.
namespace access_flags {
inline constexpr int none = 0;
inline constexpr int read = 1;
inline constexpr int read_write = 3;
} // namespace access_flags

/// CUstream_flags.
namespace stream_flags {
inline constexpr unsigned standard = 0;
inline constexpr unsigned non_blocking = 1;
} // namespace stream_flags

/// CUevent_flags.
namespace event_flags {
inline constexpr unsigned standard = 0;
inline constexpr unsigned disable_timing = 2;
} // namespace event_flags

/// CUmemLocation.
struct location {
    int type = 0;
    int id = 0;

    friend constexpr bool operator==(const location&, const location&) noexcept = default;
};

/// CUmemAllocationProp: what memory is created with.
struct allocation_prop {
    int type = 0;
    int requested_handle_types = 0;
    abi::location location{};
    void* win32_handle_meta_data = nullptr;
    struct {
        unsigned char compression_type = 0;
        unsigned char gpu_direct_rdma_capable = 0;
        unsigned short usage = 0;
        unsigned char reserved[4] = {};
    } flags;
};

/// CUmemAccessDesc: what one device may do.
struct access_desc {
    abi::location location{};
    int flags = 0;
};

/// CUmemFabricHandle.
struct fabric_handle {
    unsigned char data[64] = {};
};

/// CUuuid.
struct uuid {
    char bytes[16] = {};
};

} // namespace vtensor::cuda::abi
