// SPDX-License-Identifier: Apache-2.0
//
// Loading a driver: from libraries of the test's own, one for each thing that can be wrong, so that it is the
// same on a machine with a driver and on one without.
#include <support/catch.hpp>

#include <vtensor/backends/cuda/driver.hpp>
#include <vtensor/backends/hip/driver.hpp>

#include <string>

#include <dlfcn.h>

using namespace vtensor;
using Catch::Matchers::ContainsSubstring;

namespace {

/// The address of a library's symbol, as the dynamic linker has it.
class symbols {
  public:
    explicit symbols(const char* library) : handle_{::dlopen(library, RTLD_NOW | RTLD_LOCAL)} {
        REQUIRE(handle_ != nullptr);
    }
    template <class Function>
    [[nodiscard]] bool is(Function* found, const char* name) const {
        void* const expected = ::dlsym(handle_, name);
        INFO(name);
        CHECK(expected != nullptr);
        return reinterpret_cast<void*>(found) == expected;
    }

  private:
    void* handle_;
};

void check_cuda_entries(const char* library) {
    const auto loaded = load_cuda_driver(library);
    REQUIRE(loaded);
    CHECK(loaded.library == library);
    CHECK(loaded.reason.empty());
    const cuda_driver& got = loaded.driver;
    const symbols in{library};
    CHECK(in.is(got.init, "cuInit"));
    CHECK(in.is(got.driver_get_version, "cuDriverGetVersion"));
    CHECK(in.is(got.device_get_count, "cuDeviceGetCount"));
    CHECK(in.is(got.device_get, "cuDeviceGet"));
    CHECK(in.is(got.device_get_attribute, "cuDeviceGetAttribute"));
    CHECK(in.is(got.device_primary_ctx_retain, "cuDevicePrimaryCtxRetain"));
    CHECK(in.is(got.device_primary_ctx_release, "cuDevicePrimaryCtxRelease_v2"));
    CHECK(in.is(got.ctx_get_current, "cuCtxGetCurrent"));
    CHECK(in.is(got.ctx_push_current, "cuCtxPushCurrent_v2"));
    CHECK(in.is(got.ctx_pop_current, "cuCtxPopCurrent_v2"));
    CHECK(in.is(got.ctx_get_device, "cuCtxGetDevice"));
    CHECK(in.is(got.mem_get_allocation_granularity, "cuMemGetAllocationGranularity"));
    CHECK(in.is(got.mem_address_reserve, "cuMemAddressReserve"));
    CHECK(in.is(got.mem_address_free, "cuMemAddressFree"));
    CHECK(in.is(got.mem_create, "cuMemCreate"));
    CHECK(in.is(got.mem_release, "cuMemRelease"));
    CHECK(in.is(got.mem_map, "cuMemMap"));
    CHECK(in.is(got.mem_unmap, "cuMemUnmap"));
    CHECK(in.is(got.mem_set_access, "cuMemSetAccess"));
    CHECK(in.is(got.memcpy_async, "cuMemcpyAsync"));
    CHECK(in.is(got.memset_d8_async, "cuMemsetD8Async"));
    CHECK(in.is(got.stream_create, "cuStreamCreate"));
    CHECK(in.is(got.stream_destroy, "cuStreamDestroy_v2"));
    CHECK(in.is(got.stream_synchronize, "cuStreamSynchronize"));
    CHECK(in.is(got.stream_query, "cuStreamQuery"));
    CHECK(in.is(got.stream_wait_event, "cuStreamWaitEvent"));
    CHECK(in.is(got.event_create, "cuEventCreate"));
    CHECK(in.is(got.event_destroy, "cuEventDestroy_v2"));
    CHECK(in.is(got.event_record, "cuEventRecord"));
    CHECK(in.is(got.event_query, "cuEventQuery"));
    CHECK(in.is(got.event_synchronize, "cuEventSynchronize"));
    CHECK(in.is(got.get_error_name, "cuGetErrorName"));
    CHECK(in.is(got.get_error_string, "cuGetErrorString"));
    CHECK(in.is(got.device_get_name, "cuDeviceGetName"));
    CHECK(in.is(got.device_total_mem, "cuDeviceTotalMem_v2"));
    CHECK(in.is(got.device_can_access_peer, "cuDeviceCanAccessPeer"));
    CHECK(in.is(got.device_get_uuid, "cuDeviceGetUuid_v2"));
    CHECK(in.is(got.mem_get_info, "cuMemGetInfo_v2"));
    CHECK(in.is(got.mem_alloc, "cuMemAlloc_v2"));
    CHECK(in.is(got.mem_free, "cuMemFree_v2"));
    CHECK(in.is(got.mem_get_access, "cuMemGetAccess"));
    CHECK(in.is(got.mem_export_to_shareable_handle, "cuMemExportToShareableHandle"));
    CHECK(in.is(got.mem_import_from_shareable_handle, "cuMemImportFromShareableHandle"));
    CHECK(in.is(got.mem_retain_allocation_handle, "cuMemRetainAllocationHandle"));
    CHECK(in.is(got.mem_get_allocation_properties_from_handle, "cuMemGetAllocationPropertiesFromHandle"));
}

template <class Loaded>
void check_failed(const Loaded& loaded, int native, const std::string& because) {
    CHECK_FALSE(loaded);
    CHECK(loaded.failure.code == errc::no_device);
    CHECK(loaded.failure.native == native);
    CHECK_THAT(loaded.reason, ContainsSubstring(because));
    CHECK(loaded.reason.back() == '.');
    CHECK(loaded.driver.mem_create == nullptr); // and nothing half filled
    CHECK(loaded.driver.init == nullptr);
}

} // namespace

TEST_CASE("the entries of a CUDA driver are taken in their present form", "[load]") {
    SECTION("from a driver that is asked with a status") { check_cuda_entries(FAKE_CUDA); }
    SECTION("from a driver of CUDA 11.3, asked without") { check_cuda_entries(FAKE_CUDA_11); }
    SECTION("from a driver that cannot be asked") { check_cuda_entries(FAKE_CUDA_10); }
}

TEST_CASE("what a CUDA driver lacks is null where it is optional, and a failure where not", "[load]") {
    const auto loaded = load_cuda_driver(FAKE_CUDA_WITHOUT_EXPORT);
    REQUIRE(loaded);
    CHECK(loaded.driver.mem_export_to_shareable_handle == nullptr);
    CHECK(loaded.driver.mem_import_from_shareable_handle == nullptr);
    CHECK(loaded.driver.mem_create != nullptr);
    check_failed(load_cuda_driver(FAKE_HIP), 0, "it has no cuInit");
}

TEST_CASE("a CUDA driver that is missing or finds no device is a sentence", "[load]") {
    check_failed(load_cuda_driver("libno-such-driver.so.1"), 0, "libno-such-driver.so.1");
    check_failed(load_cuda_driver(FAKE_CUDA_NO_DEVICE), 100, "cuInit gives 100");
    check_failed(load_cuda_driver(FAKE_CUDA_EMPTY), 0, "there is no CUDA device");
}

TEST_CASE("the entries of a HIP runtime are taken by their names", "[load]") {
    const auto loaded = load_hip_driver(FAKE_HIP);
    REQUIRE(loaded);
    const hip_driver& got = loaded.driver;
    const symbols in{FAKE_HIP};
    CHECK(in.is(got.init, "hipInit"));
    CHECK(in.is(got.runtime_get_version, "hipRuntimeGetVersion"));
    CHECK(in.is(got.get_device_count, "hipGetDeviceCount"));
    CHECK(in.is(got.set_device, "hipSetDevice"));
    CHECK(in.is(got.get_device, "hipGetDevice"));
    CHECK(in.is(got.device_get_attribute, "hipDeviceGetAttribute"));
    CHECK(in.is(got.mem_get_allocation_granularity, "hipMemGetAllocationGranularity"));
    CHECK(in.is(got.mem_address_reserve, "hipMemAddressReserve"));
    CHECK(in.is(got.mem_address_free, "hipMemAddressFree"));
    CHECK(in.is(got.mem_create, "hipMemCreate"));
    CHECK(in.is(got.mem_release, "hipMemRelease"));
    CHECK(in.is(got.mem_map, "hipMemMap"));
    CHECK(in.is(got.mem_unmap, "hipMemUnmap"));
    CHECK(in.is(got.mem_set_access, "hipMemSetAccess"));
    CHECK(in.is(got.mem_alloc, "hipMalloc"));
    CHECK(in.is(got.mem_free, "hipFree"));
    CHECK(in.is(got.memcpy_async, "hipMemcpyAsync"));
    CHECK(in.is(got.memset_async, "hipMemsetAsync"));
    CHECK(in.is(got.stream_create_with_flags, "hipStreamCreateWithFlags"));
    CHECK(in.is(got.stream_destroy, "hipStreamDestroy"));
    CHECK(in.is(got.stream_synchronize, "hipStreamSynchronize"));
    CHECK(in.is(got.stream_query, "hipStreamQuery"));
    CHECK(in.is(got.stream_wait_event, "hipStreamWaitEvent"));
    CHECK(in.is(got.event_create_with_flags, "hipEventCreateWithFlags"));
    CHECK(in.is(got.event_destroy, "hipEventDestroy"));
    CHECK(in.is(got.event_record, "hipEventRecord"));
    CHECK(in.is(got.event_query, "hipEventQuery"));
    CHECK(in.is(got.event_synchronize, "hipEventSynchronize"));
    CHECK(in.is(got.driver_get_version, "hipDriverGetVersion"));
    CHECK(in.is(got.get_error_name, "hipGetErrorName"));
    CHECK(in.is(got.get_error_string, "hipGetErrorString"));
    CHECK(in.is(got.get_last_error, "hipGetLastError"));
    CHECK(in.is(got.device_get_name, "hipDeviceGetName"));
    CHECK(in.is(got.device_total_mem, "hipDeviceTotalMem"));
    CHECK(in.is(got.device_can_access_peer, "hipDeviceCanAccessPeer"));
    CHECK(in.is(got.device_get_uuid, "hipDeviceGetUuid"));
    CHECK(in.is(got.get_device_properties_r0600, "hipGetDevicePropertiesR0600"));
    CHECK(in.is(got.get_device_properties, "hipGetDeviceProperties"));
    CHECK(in.is(got.mem_get_info, "hipMemGetInfo"));
    CHECK(in.is(got.mem_get_access, "hipMemGetAccess"));
    CHECK(in.is(got.mem_export_to_shareable_handle, "hipMemExportToShareableHandle"));
    CHECK(in.is(got.mem_import_from_shareable_handle, "hipMemImportFromShareableHandle"));
    CHECK(in.is(got.mem_retain_allocation_handle, "hipMemRetainAllocationHandle"));
    CHECK(in.is(got.mem_get_allocation_properties_from_handle, "hipMemGetAllocationPropertiesFromHandle"));
}

TEST_CASE("what a HIP runtime lacks is null where it is optional, and a failure where not", "[load]") {
    const auto loaded = load_hip_driver(FAKE_HIP_OLD);
    REQUIRE(loaded);
    CHECK(loaded.driver.get_device_properties_r0600 == nullptr);
    CHECK(loaded.driver.mem_export_to_shareable_handle == nullptr);
    CHECK(loaded.driver.get_last_error == nullptr);
    check_failed(load_hip_driver(FAKE_CUDA), 0, "it has no hipInit");
    check_failed(load_hip_driver("libno-such-runtime.so"), 0, "libno-such-runtime.so");
    check_failed(load_hip_driver(FAKE_HIP_EMPTY), 0, "there is no HIP device");
}

TEST_CASE("without naming a file, what is installed is loaded or a sentence says why not", "[load]") {
    const auto consistent = [](const auto& loaded) {
        CHECK(loaded.reason.empty() == static_cast<bool>(loaded));
        CHECK((loaded.failure.code == errc::ok || loaded.failure.code == errc::no_device));
        CHECK((loaded.driver.mem_create != nullptr) == static_cast<bool>(loaded));
        WARN((loaded ? "loaded " + loaded.library : loaded.reason));
    };
    consistent(load_cuda_driver());
    consistent(load_hip_driver());
}
