// SPDX-License-Identifier: Apache-2.0
//
// Our declaration of the CUDA driver against <cuda.h>. All of it is decided when this file is compiled.
#include "same_abi.hpp"

#include <support/catch.hpp>

#include <vtensor/backends/cuda/driver.hpp>

#include <cstddef>

#include <cuda.h>

namespace {

using namespace vtensor;
namespace abi = vtensor::cuda::abi;

// ---- structures ----

static_assert(sizeof(abi::location) == sizeof(CUmemLocation));
static_assert(offsetof(abi::location, type) == offsetof(CUmemLocation, type));
static_assert(offsetof(abi::location, id) == offsetof(CUmemLocation, id));

static_assert(sizeof(abi::allocation_prop) == sizeof(CUmemAllocationProp));
static_assert(alignof(abi::allocation_prop) == alignof(CUmemAllocationProp));
static_assert(offsetof(abi::allocation_prop, type) == offsetof(CUmemAllocationProp, type));
static_assert(offsetof(abi::allocation_prop, requested_handle_types) ==
              offsetof(CUmemAllocationProp, requestedHandleTypes));
static_assert(offsetof(abi::allocation_prop, location) == offsetof(CUmemAllocationProp, location));
static_assert(offsetof(abi::allocation_prop, win32_handle_meta_data) ==
              offsetof(CUmemAllocationProp, win32HandleMetaData));
static_assert(offsetof(abi::allocation_prop, flags) == offsetof(CUmemAllocationProp, allocFlags));
static_assert(offsetof(abi::allocation_prop, flags.compression_type) ==
              offsetof(CUmemAllocationProp, allocFlags.compressionType));
static_assert(offsetof(abi::allocation_prop, flags.gpu_direct_rdma_capable) ==
              offsetof(CUmemAllocationProp, allocFlags.gpuDirectRDMACapable));
static_assert(offsetof(abi::allocation_prop, flags.usage) == offsetof(CUmemAllocationProp, allocFlags.usage));

static_assert(sizeof(abi::access_desc) == sizeof(CUmemAccessDesc));
static_assert(offsetof(abi::access_desc, location) == offsetof(CUmemAccessDesc, location));
static_assert(offsetof(abi::access_desc, flags) == offsetof(CUmemAccessDesc, flags));

static_assert(sizeof(abi::fabric_handle) == sizeof(CUmemFabricHandle));
static_assert(sizeof(abi::uuid) == sizeof(CUuuid));

} // namespace

template <>
inline constexpr bool vtensor::testing::same_layout<abi::location, CUmemLocation> = true;
template <>
inline constexpr bool vtensor::testing::same_layout<abi::allocation_prop, CUmemAllocationProp> = true;
template <>
inline constexpr bool vtensor::testing::same_layout<abi::access_desc, CUmemAccessDesc> = true;
template <>
inline constexpr bool vtensor::testing::same_layout<abi::uuid, CUuuid> = true;

namespace {

// ---- numbers ----

static_assert(abi::code::success == CUDA_SUCCESS);
static_assert(abi::code::invalid_value == CUDA_ERROR_INVALID_VALUE);
static_assert(abi::code::out_of_memory == CUDA_ERROR_OUT_OF_MEMORY);
static_assert(abi::code::not_initialized == CUDA_ERROR_NOT_INITIALIZED);
static_assert(abi::code::deinitialized == CUDA_ERROR_DEINITIALIZED);
static_assert(abi::code::no_device == CUDA_ERROR_NO_DEVICE);
static_assert(abi::code::invalid_device == CUDA_ERROR_INVALID_DEVICE);
static_assert(abi::code::invalid_context == CUDA_ERROR_INVALID_CONTEXT);
static_assert(abi::code::operating_system == CUDA_ERROR_OPERATING_SYSTEM);
static_assert(abi::code::invalid_handle == CUDA_ERROR_INVALID_HANDLE);
static_assert(abi::code::illegal_state == CUDA_ERROR_ILLEGAL_STATE);
static_assert(abi::code::not_found == CUDA_ERROR_NOT_FOUND);
static_assert(abi::code::not_ready == CUDA_ERROR_NOT_READY);
static_assert(abi::code::illegal_address == CUDA_ERROR_ILLEGAL_ADDRESS);
static_assert(abi::code::context_is_destroyed == CUDA_ERROR_CONTEXT_IS_DESTROYED);
static_assert(abi::code::launch_failed == CUDA_ERROR_LAUNCH_FAILED);
static_assert(abi::code::not_permitted == CUDA_ERROR_NOT_PERMITTED);
static_assert(abi::code::not_supported == CUDA_ERROR_NOT_SUPPORTED);
static_assert(abi::code::unknown == CUDA_ERROR_UNKNOWN);

static_assert(abi::attribute::compute_capability_major == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
static_assert(abi::attribute::compute_capability_minor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
static_assert(abi::attribute::virtual_memory_management ==
              CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
static_assert(abi::attribute::posix_descriptor_handles ==
              CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
static_assert(abi::attribute::gpu_direct_rdma_with_vmm ==
              CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED);
#if CUDA_VERSION >= 12040
static_assert(abi::attribute::fabric_handles == CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED);
static_assert(abi::handle_type::fabric == CU_MEM_HANDLE_TYPE_FABRIC);
#endif

static_assert(abi::allocation_type::pinned == CU_MEM_ALLOCATION_TYPE_PINNED);
static_assert(abi::location_type::device == CU_MEM_LOCATION_TYPE_DEVICE);
static_assert(abi::handle_type::none == 0);
static_assert(abi::handle_type::posix_descriptor == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
static_assert(abi::granularity::minimum == CU_MEM_ALLOC_GRANULARITY_MINIMUM);
static_assert(abi::granularity::recommended == CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
static_assert(abi::access_flags::none == CU_MEM_ACCESS_FLAGS_PROT_NONE);
static_assert(abi::access_flags::read == CU_MEM_ACCESS_FLAGS_PROT_READ);
static_assert(abi::access_flags::read_write == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
static_assert(abi::stream_flags::standard == CU_STREAM_DEFAULT);
static_assert(abi::stream_flags::non_blocking == CU_STREAM_NON_BLOCKING);
static_assert(abi::event_flags::standard == CU_EVENT_DEFAULT);
static_assert(abi::event_flags::disable_timing == CU_EVENT_DISABLE_TIMING);

// ---- handles: a caller's own are ours, without a cast ----

static_assert(std::is_same_v<abi::stream, CUstream>);
static_assert(std::is_same_v<abi::event, CUevent>);
static_assert(std::is_same_v<abi::context, CUcontext>);
static_assert(std::is_same_v<abi::device, CUdevice>);
static_assert(std::is_same_v<abi::device_pointer, CUdeviceptr>);
static_assert(std::is_same_v<abi::allocation_handle, CUmemGenericAllocationHandle>);

// ---- entries: the header's macros name the form that is meant, cuMemGetInfo_v2 for cuMemGetInfo ----

#define VTENSOR_ENTRY(member, entry)                                                                         \
    static_assert(testing::same_abi<decltype(cuda_driver::member), decltype(&entry)>, #entry)

VTENSOR_ENTRY(init, cuInit);
VTENSOR_ENTRY(driver_get_version, cuDriverGetVersion);
VTENSOR_ENTRY(device_get_count, cuDeviceGetCount);
VTENSOR_ENTRY(device_get, cuDeviceGet);
VTENSOR_ENTRY(device_get_attribute, cuDeviceGetAttribute);
VTENSOR_ENTRY(device_primary_ctx_retain, cuDevicePrimaryCtxRetain);
VTENSOR_ENTRY(device_primary_ctx_release, cuDevicePrimaryCtxRelease);
VTENSOR_ENTRY(ctx_get_current, cuCtxGetCurrent);
VTENSOR_ENTRY(ctx_push_current, cuCtxPushCurrent);
VTENSOR_ENTRY(ctx_pop_current, cuCtxPopCurrent);
VTENSOR_ENTRY(ctx_get_device, cuCtxGetDevice);
VTENSOR_ENTRY(mem_get_allocation_granularity, cuMemGetAllocationGranularity);
VTENSOR_ENTRY(mem_address_reserve, cuMemAddressReserve);
VTENSOR_ENTRY(mem_address_free, cuMemAddressFree);
VTENSOR_ENTRY(mem_create, cuMemCreate);
VTENSOR_ENTRY(mem_release, cuMemRelease);
VTENSOR_ENTRY(mem_map, cuMemMap);
VTENSOR_ENTRY(mem_unmap, cuMemUnmap);
VTENSOR_ENTRY(mem_set_access, cuMemSetAccess);
VTENSOR_ENTRY(memcpy_async, cuMemcpyAsync);
VTENSOR_ENTRY(memset_d8_async, cuMemsetD8Async);
VTENSOR_ENTRY(stream_create, cuStreamCreate);
VTENSOR_ENTRY(stream_destroy, cuStreamDestroy);
VTENSOR_ENTRY(stream_synchronize, cuStreamSynchronize);
VTENSOR_ENTRY(stream_query, cuStreamQuery);
VTENSOR_ENTRY(stream_wait_event, cuStreamWaitEvent);
VTENSOR_ENTRY(event_create, cuEventCreate);
VTENSOR_ENTRY(event_destroy, cuEventDestroy);
VTENSOR_ENTRY(event_record, cuEventRecord);
VTENSOR_ENTRY(event_query, cuEventQuery);
VTENSOR_ENTRY(event_synchronize, cuEventSynchronize);
VTENSOR_ENTRY(get_error_name, cuGetErrorName);
VTENSOR_ENTRY(get_error_string, cuGetErrorString);
VTENSOR_ENTRY(device_get_name, cuDeviceGetName);
VTENSOR_ENTRY(device_total_mem, cuDeviceTotalMem);
VTENSOR_ENTRY(device_can_access_peer, cuDeviceCanAccessPeer);
VTENSOR_ENTRY(device_get_uuid, cuDeviceGetUuid);
VTENSOR_ENTRY(mem_get_info, cuMemGetInfo);
VTENSOR_ENTRY(mem_alloc, cuMemAlloc);
VTENSOR_ENTRY(mem_free, cuMemFree);
VTENSOR_ENTRY(mem_get_access, cuMemGetAccess);
VTENSOR_ENTRY(mem_export_to_shareable_handle, cuMemExportToShareableHandle);
VTENSOR_ENTRY(mem_import_from_shareable_handle, cuMemImportFromShareableHandle);
VTENSOR_ENTRY(mem_retain_allocation_handle, cuMemRetainAllocationHandle);
VTENSOR_ENTRY(mem_get_allocation_properties_from_handle, cuMemGetAllocationPropertiesFromHandle);

} // namespace

TEST_CASE("the CUDA driver is declared as its header declares it", "[abi]") {
    // The comparison is the compilation; this says with what.
    WARN("compared with the header of CUDA " << CUDA_VERSION / 1000 << '.' << CUDA_VERSION % 1000 / 10);
    // And the comparison itself can say no.
    STATIC_REQUIRE_FALSE(vtensor::testing::same_abi<int (*)(int), decltype(&cuDeviceGet)>);
    STATIC_REQUIRE_FALSE(
        vtensor::testing::same_abi<decltype(vtensor::cuda_driver::mem_map), decltype(&cuMemUnmap)>);
    STATIC_REQUIRE_FALSE(vtensor::testing::same_abi<int (*)(CUdeviceptr*, unsigned), decltype(&cuMemAlloc)>);
    STATIC_REQUIRE_FALSE(vtensor::testing::same_abi<CUmemLocation*, const CUmemLocation*>);
}
