// SPDX-License-Identifier: Apache-2.0
//
// Our declaration of the HIP runtime against <hip/hip_runtime_api.h>. All of it is decided when this file is
// compiled.
#include "same_abi.hpp"

#include <support/catch.hpp>

#include <vtensor/backends/hip/driver.hpp>

#include <cstddef>
#include <type_traits>

#include <hip/hip_runtime_api.h>

namespace {

using namespace vtensor;
namespace abi = vtensor::hip::abi;

constexpr bool old_prop = HIP_VERSION < abi::first_with_allocation_prop;
using our_prop = std::conditional_t<old_prop, abi::allocation_prop_5_2, abi::allocation_prop>;

// ---- structures ----

static_assert(abi::version(HIP_VERSION_MAJOR, HIP_VERSION_MINOR, HIP_VERSION_PATCH) == HIP_VERSION);

static_assert(sizeof(abi::location) == sizeof(hipMemLocation));
static_assert(offsetof(abi::location, type) == offsetof(hipMemLocation, type));
static_assert(offsetof(abi::location, id) == offsetof(hipMemLocation, id));

static_assert(sizeof(our_prop) == sizeof(hipMemAllocationProp));
static_assert(alignof(our_prop) == alignof(hipMemAllocationProp));
static_assert(offsetof(our_prop, type) == offsetof(hipMemAllocationProp, type));
static_assert(offsetof(our_prop, requested_handle_type) ==
              offsetof(hipMemAllocationProp, requestedHandleType));
static_assert(offsetof(our_prop, location) == offsetof(hipMemAllocationProp, location));
static_assert(offsetof(our_prop, win32_handle_meta_data) ==
              offsetof(hipMemAllocationProp, win32HandleMetaData));
#if HIP_VERSION < 50300000
static_assert(offsetof(our_prop, compression_type) == offsetof(hipMemAllocationProp, compressionType));
static_assert(offsetof(our_prop, usage) == offsetof(hipMemAllocationProp, usage));
#else
static_assert(offsetof(our_prop, flags.compression_type) ==
              offsetof(hipMemAllocationProp, allocFlags.compressionType));
static_assert(offsetof(our_prop, flags.gpu_direct_rdma_capable) ==
              offsetof(hipMemAllocationProp, allocFlags.gpuDirectRDMACapable));
static_assert(offsetof(our_prop, flags.usage) == offsetof(hipMemAllocationProp, allocFlags.usage));
static_assert(HIP_VERSION_MAJOR == 6 && HIP_VERSION_MINOR == 0 ||
              abi::attribute::virtual_memory_management(HIP_VERSION) ==
                  hipDeviceAttributeVirtualMemoryManagementSupported);
#endif

static_assert(sizeof(abi::access_desc) == sizeof(hipMemAccessDesc));
static_assert(offsetof(abi::access_desc, location) == offsetof(hipMemAccessDesc, location));
static_assert(offsetof(abi::access_desc, flags) == offsetof(hipMemAccessDesc, flags));

static_assert(sizeof(abi::uuid) == sizeof(hipUUID));

#if HIP_VERSION_MAJOR < 6
using our_device_prop = abi::device_prop_r0000;
#else
using our_device_prop = abi::device_prop_r0600;
#endif
static_assert(offsetof(our_device_prop, gcn_arch_name) == offsetof(hipDeviceProp_t, gcnArchName));
static_assert(sizeof(our_device_prop::gcn_arch_name) == sizeof(hipDeviceProp_t::gcnArchName));
static_assert(offsetof(our_device_prop, reserve) >= sizeof(hipDeviceProp_t));
static_assert(alignof(our_device_prop) >= alignof(hipDeviceProp_t));

} // namespace

template <>
inline constexpr bool vtensor::testing::same_layout<abi::location, hipMemLocation> = true;
template <>
inline constexpr bool vtensor::testing::same_layout<abi::access_desc, hipMemAccessDesc> = true;
template <>
inline constexpr bool vtensor::testing::same_layout<abi::uuid, hipUUID> = true;
// The table takes either of the two forms, and they are compared above.
template <>
inline constexpr bool vtensor::testing::same_layout<void, hipMemAllocationProp> = true;
template <>
inline constexpr bool vtensor::testing::same_layout<our_device_prop, hipDeviceProp_t> = true;

namespace {

// ---- numbers ----

static_assert(abi::code::success == hipSuccess);
static_assert(abi::code::invalid_value == hipErrorInvalidValue);
static_assert(abi::code::out_of_memory == hipErrorOutOfMemory);
static_assert(abi::code::not_initialized == hipErrorNotInitialized);
static_assert(abi::code::deinitialized == hipErrorDeinitialized);
static_assert(abi::code::no_device == hipErrorNoDevice);
static_assert(abi::code::invalid_device == hipErrorInvalidDevice);
static_assert(abi::code::invalid_context == hipErrorInvalidContext);
static_assert(abi::code::operating_system == hipErrorOperatingSystem);
static_assert(abi::code::invalid_handle == hipErrorInvalidHandle);
static_assert(abi::code::illegal_state == hipErrorIllegalState);
static_assert(abi::code::not_found == hipErrorNotFound);
static_assert(abi::code::not_ready == hipErrorNotReady);
static_assert(abi::code::illegal_address == hipErrorIllegalAddress);
static_assert(abi::code::context_is_destroyed == hipErrorContextIsDestroyed);
static_assert(abi::code::launch_failure == hipErrorLaunchFailure);
static_assert(abi::code::not_supported == hipErrorNotSupported);
static_assert(abi::code::unknown == hipErrorUnknown);
static_assert(abi::code::runtime_memory == hipErrorRuntimeMemory);

static_assert((HIP_VERSION_MAJOR == 6 && HIP_VERSION_MINOR == 0) ||
              abi::attribute::compute_capability_major == hipDeviceAttributeComputeCapabilityMajor);

static_assert(abi::allocation_type::pinned == hipMemAllocationTypePinned);
static_assert(abi::location_type::device == hipMemLocationTypeDevice);
static_assert(abi::handle_type::none == hipMemHandleTypeNone);
static_assert(abi::handle_type::posix_descriptor == hipMemHandleTypePosixFileDescriptor);
static_assert(abi::granularity::minimum == hipMemAllocationGranularityMinimum);
static_assert(abi::granularity::recommended == hipMemAllocationGranularityRecommended);
static_assert(abi::access_flags::none == hipMemAccessFlagsProtNone);
static_assert(abi::access_flags::read == hipMemAccessFlagsProtRead);
static_assert(abi::access_flags::read_write == hipMemAccessFlagsProtReadWrite);
static_assert(abi::memcpy_kind::device_to_device == hipMemcpyDeviceToDevice);
static_assert(abi::memcpy_kind::by_address == hipMemcpyDefault);
static_assert(abi::stream_flags::standard == hipStreamDefault);
static_assert(abi::stream_flags::non_blocking == hipStreamNonBlocking);
static_assert(abi::event_flags::standard == hipEventDefault);
static_assert(abi::event_flags::disable_timing == hipEventDisableTiming);

// ---- handles: a caller's own are ours, without a cast ----

static_assert(std::is_same_v<abi::stream, hipStream_t>);
static_assert(std::is_same_v<abi::event, hipEvent_t>);
static_assert(std::is_same_v<abi::device, hipDevice_t>);
static_assert(std::is_same_v<abi::device_pointer, hipDeviceptr_t>);
static_assert(std::is_same_v<abi::allocation_handle, hipMemGenericAllocationHandle_t>);

// ---- entries ----

#define VTENSOR_ENTRY(member, entry)                                                                         \
    static_assert(testing::same_abi<decltype(hip_driver::member), decltype(&entry)>, #entry)

VTENSOR_ENTRY(init, hipInit);
VTENSOR_ENTRY(runtime_get_version, hipRuntimeGetVersion);
VTENSOR_ENTRY(get_device_count, hipGetDeviceCount);
VTENSOR_ENTRY(set_device, hipSetDevice);
VTENSOR_ENTRY(get_device, hipGetDevice);
VTENSOR_ENTRY(device_get_attribute, hipDeviceGetAttribute);
VTENSOR_ENTRY(mem_get_allocation_granularity, hipMemGetAllocationGranularity);
VTENSOR_ENTRY(mem_address_reserve, hipMemAddressReserve);
VTENSOR_ENTRY(mem_address_free, hipMemAddressFree);
VTENSOR_ENTRY(mem_create, hipMemCreate);
VTENSOR_ENTRY(mem_release, hipMemRelease);
VTENSOR_ENTRY(mem_map, hipMemMap);
VTENSOR_ENTRY(mem_unmap, hipMemUnmap);
VTENSOR_ENTRY(mem_set_access, hipMemSetAccess);
VTENSOR_ENTRY(mem_free, hipFree);
VTENSOR_ENTRY(memcpy_async, hipMemcpyAsync);
VTENSOR_ENTRY(memset_async, hipMemsetAsync);
VTENSOR_ENTRY(stream_create_with_flags, hipStreamCreateWithFlags);
VTENSOR_ENTRY(stream_destroy, hipStreamDestroy);
VTENSOR_ENTRY(stream_synchronize, hipStreamSynchronize);
VTENSOR_ENTRY(stream_query, hipStreamQuery);
VTENSOR_ENTRY(stream_wait_event, hipStreamWaitEvent);
VTENSOR_ENTRY(event_create_with_flags, hipEventCreateWithFlags);
VTENSOR_ENTRY(event_destroy, hipEventDestroy);
VTENSOR_ENTRY(event_record, hipEventRecord);
VTENSOR_ENTRY(event_query, hipEventQuery);
VTENSOR_ENTRY(event_synchronize, hipEventSynchronize);
VTENSOR_ENTRY(driver_get_version, hipDriverGetVersion);
VTENSOR_ENTRY(get_error_name, hipGetErrorName);
VTENSOR_ENTRY(get_error_string, hipGetErrorString);
VTENSOR_ENTRY(get_last_error, hipGetLastError);
VTENSOR_ENTRY(device_get_name, hipDeviceGetName);
VTENSOR_ENTRY(device_total_mem, hipDeviceTotalMem);
VTENSOR_ENTRY(device_can_access_peer, hipDeviceCanAccessPeer);
VTENSOR_ENTRY(device_get_uuid, hipDeviceGetUuid);
#if HIP_VERSION_MAJOR < 6
VTENSOR_ENTRY(get_device_properties, hipGetDeviceProperties);
#else
VTENSOR_ENTRY(get_device_properties_r0600, hipGetDevicePropertiesR0600);
#endif
VTENSOR_ENTRY(mem_get_info, hipMemGetInfo);
VTENSOR_ENTRY(mem_get_access, hipMemGetAccess);
VTENSOR_ENTRY(mem_export_to_shareable_handle, hipMemExportToShareableHandle);
VTENSOR_ENTRY(mem_import_from_shareable_handle, hipMemImportFromShareableHandle);
VTENSOR_ENTRY(mem_retain_allocation_handle, hipMemRetainAllocationHandle);
VTENSOR_ENTRY(mem_get_allocation_properties_from_handle, hipMemGetAllocationPropertiesFromHandle);

// hipMalloc has a template of the same name beside it.
static_assert(std::is_same_v<decltype(static_cast<hipError_t (*)(void**, std::size_t)>(&hipMalloc)),
                             hipError_t (*)(void**, std::size_t)>);
static_assert(testing::same_abi<decltype(hip_driver::mem_alloc), hipError_t (*)(void**, std::size_t)>);

} // namespace

TEST_CASE("the HIP runtime is declared as its header declares it", "[abi]") {
    // The comparison is the compilation; this says with what.
    WARN("compared with the header of HIP " << HIP_VERSION_MAJOR << '.' << HIP_VERSION_MINOR);
    // And the comparison itself can say no.
    STATIC_REQUIRE_FALSE(vtensor::testing::same_abi<int (*)(int), decltype(&hipGetDevice)>);
    STATIC_REQUIRE_FALSE(
        vtensor::testing::same_abi<decltype(vtensor::hip_driver::mem_map), decltype(&hipMemUnmap)>);
    STATIC_REQUIRE_FALSE(vtensor::testing::same_abi<hipMemLocation*, const hipMemLocation*>);
}
