// SPDX-License-Identifier: Apache-2.0
//
// The CUDA driver as one table of functions, taken at run time from libcuda.so.1: a program built with it
// starts on a machine without a GPU, and a test can hand in a table of its own.
#pragma once

#include <vtensor/backends/cuda/abi.hpp>
#include <vtensor/backends/detail/shared_library.hpp>

#include <cstddef>
#include <string>
#include <utility>

namespace vtensor {

/// One pointer for each entry that the library calls, with the driver's own order of arguments and meaning;
/// CUresult is `int`. A member is called as its entry without "cu". Plain data: the functions are the
/// driver's. cuCtxSynchronize is absent on purpose: nothing here waits for a whole device.
struct cuda_driver {
    using abi_device = cuda::abi::device;
    using pointer = cuda::abi::device_pointer;
    using handle = cuda::abi::allocation_handle;
    using context = cuda::abi::context;
    using stream = cuda::abi::stream;
    using event = cuda::abi::event;
    using prop = cuda::abi::allocation_prop;
    using bits = unsigned long long;

    int (*init)(unsigned flags) = nullptr;
    int (*driver_get_version)(int* version) = nullptr;

    int (*device_get_count)(int* count) = nullptr;
    int (*device_get)(abi_device* device, int ordinal) = nullptr;
    int (*device_get_attribute)(int* value, int attribute, abi_device device) = nullptr;

    int (*device_primary_ctx_retain)(context* made, abi_device device) = nullptr;
    int (*device_primary_ctx_release)(abi_device device) = nullptr;
    int (*ctx_get_current)(context* current) = nullptr;
    int (*ctx_push_current)(context pushed) = nullptr;
    int (*ctx_pop_current)(context* popped) = nullptr;
    int (*ctx_get_device)(abi_device* device) = nullptr;

    int (*mem_get_allocation_granularity)(std::size_t* bytes, const prop* properties, int which) = nullptr;
    int (*mem_address_reserve)(pointer* where, std::size_t bytes, std::size_t align, pointer hint,
                               bits flags) = nullptr;
    int (*mem_address_free)(pointer where, std::size_t bytes) = nullptr;
    int (*mem_create)(handle* made, std::size_t bytes, const prop* properties, bits flags) = nullptr;
    int (*mem_release)(handle memory) = nullptr;
    int (*mem_map)(pointer where, std::size_t bytes, std::size_t offset, handle memory, bits flags) = nullptr;
    int (*mem_unmap)(pointer where, std::size_t bytes) = nullptr;
    int (*mem_set_access)(pointer where, std::size_t bytes, const cuda::abi::access_desc* list,
                          std::size_t count) = nullptr;

    int (*memcpy_async)(pointer to, pointer from, std::size_t bytes, stream on) = nullptr;
    int (*memset_d8_async)(pointer to, unsigned char value, std::size_t bytes, stream on) = nullptr;
    int (*stream_create)(stream* made, unsigned flags) = nullptr;
    int (*stream_destroy)(stream gone) = nullptr;
    int (*stream_synchronize)(stream waited_for) = nullptr;
    int (*stream_query)(stream asked) = nullptr;
    int (*stream_wait_event)(stream waiting, event waited_for, unsigned flags) = nullptr;
    int (*event_create)(event* made, unsigned flags) = nullptr;
    int (*event_destroy)(event gone) = nullptr;
    int (*event_record)(event recorded, stream on) = nullptr;
    int (*event_query)(event asked) = nullptr;
    int (*event_synchronize)(event waited_for) = nullptr;

    // ---- optional: null where the driver is too old, and what needs them is reported as off ----

    int (*get_error_name)(int code, const char** name) = nullptr;
    int (*get_error_string)(int code, const char** text) = nullptr;
    int (*device_get_name)(char* name, int length, abi_device device) = nullptr;
    int (*device_total_mem)(std::size_t* bytes, abi_device device) = nullptr;
    int (*device_can_access_peer)(int* can, abi_device device, abi_device peer) = nullptr;
    int (*device_get_uuid)(cuda::abi::uuid* uuid, abi_device device) = nullptr;
    int (*mem_get_info)(std::size_t* free_bytes, std::size_t* total_bytes) = nullptr;
    int (*mem_alloc)(pointer* where, std::size_t bytes) = nullptr;
    int (*mem_free)(pointer where) = nullptr;
    int (*mem_get_access)(bits* flags, const cuda::abi::location* who, pointer where) = nullptr;
    int (*mem_export_to_shareable_handle)(void* exported, handle memory, int type, bits flags) = nullptr;
    int (*mem_import_from_shareable_handle)(handle* made, void* exported, int type) = nullptr;
    int (*mem_retain_allocation_handle)(handle* retained, void* where) = nullptr;
    int (*mem_get_allocation_properties_from_handle)(prop* properties, handle memory) = nullptr;
};

namespace cuda::detail {

/// Finds entries by cuGetProcAddress, which gives the form of an entry that a version of CUDA has. Drivers
/// older than CUDA 11.3 lack it: there, and where it does not know the entry, by the symbol's own name.
class entry_finder {
  public:
    explicit entry_finder(const vtensor::detail::shared_library& library) noexcept : library_{library} {
        library.find(with_status_, "cuGetProcAddress_v2");
        library.find(without_status_, "cuGetProcAddress");
    }

    /// The entry as it has been since `version` (11020 is CUDA 11.2); `symbol` is that form's name in the
    /// library. False where it is not to be had.
    template <class Function>
    bool find(Function*& function, const char* entry, int version, const char* symbol) const noexcept {
        constexpr unsigned long long legacy_stream = 1; // stream 0 is the legacy default stream
        void* found = nullptr;
        int status = 0;
        if (with_status_ != nullptr) {
            if (with_status_(entry, &found, version, legacy_stream, &status) != abi::code::success)
                found = nullptr;
        } else if (without_status_ != nullptr) {
            if (without_status_(entry, &found, version, legacy_stream) != abi::code::success)
                found = nullptr;
        }
        if (found != nullptr)
            function = reinterpret_cast<Function*>(found);
        else
            library_.find(function, symbol);
        return function != nullptr;
    }
    template <class Function>
    bool find(Function*& function, const char* entry, int version) const noexcept {
        return find(function, entry, version, entry);
    }

  private:
    const vtensor::detail::shared_library& library_;
    int (*with_status_)(const char*, void**, int, unsigned long long, int*) = nullptr;
    int (*without_status_)(const char*, void**, int, unsigned long long) = nullptr;
};

/// Fills the entries without which there is no backend. The name of the first that is missing, or null.
inline const char* find_required(cuda_driver& to, const entry_finder& in) noexcept {
    const char* missing = nullptr;
    const auto need = [&](auto*& function, const char* entry, int version, const char* symbol) {
        if (!in.find(function, entry, version, symbol) && missing == nullptr)
            missing = symbol;
    };
    const auto plain = [&](auto*& function, const char* entry, int version) {
        need(function, entry, version, entry);
    };
    plain(to.init, "cuInit", 2000);
    plain(to.driver_get_version, "cuDriverGetVersion", 2020);
    plain(to.device_get_count, "cuDeviceGetCount", 2000);
    plain(to.device_get, "cuDeviceGet", 2000);
    plain(to.device_get_attribute, "cuDeviceGetAttribute", 2000);
    plain(to.device_primary_ctx_retain, "cuDevicePrimaryCtxRetain", 7000);
    need(to.device_primary_ctx_release, "cuDevicePrimaryCtxRelease", 11000, "cuDevicePrimaryCtxRelease_v2");
    plain(to.ctx_get_current, "cuCtxGetCurrent", 4000);
    need(to.ctx_push_current, "cuCtxPushCurrent", 4000, "cuCtxPushCurrent_v2");
    need(to.ctx_pop_current, "cuCtxPopCurrent", 4000, "cuCtxPopCurrent_v2");
    plain(to.ctx_get_device, "cuCtxGetDevice", 2000);
    plain(to.mem_get_allocation_granularity, "cuMemGetAllocationGranularity", 10020);
    plain(to.mem_address_reserve, "cuMemAddressReserve", 10020);
    plain(to.mem_address_free, "cuMemAddressFree", 10020);
    plain(to.mem_create, "cuMemCreate", 10020);
    plain(to.mem_release, "cuMemRelease", 10020);
    plain(to.mem_map, "cuMemMap", 10020);
    plain(to.mem_unmap, "cuMemUnmap", 10020);
    plain(to.mem_set_access, "cuMemSetAccess", 10020);
    plain(to.memcpy_async, "cuMemcpyAsync", 4000);
    plain(to.memset_d8_async, "cuMemsetD8Async", 3020);
    plain(to.stream_create, "cuStreamCreate", 2000);
    need(to.stream_destroy, "cuStreamDestroy", 4000, "cuStreamDestroy_v2");
    plain(to.stream_synchronize, "cuStreamSynchronize", 2000);
    plain(to.stream_query, "cuStreamQuery", 2000);
    plain(to.stream_wait_event, "cuStreamWaitEvent", 3020);
    plain(to.event_create, "cuEventCreate", 2000);
    need(to.event_destroy, "cuEventDestroy", 4000, "cuEventDestroy_v2");
    plain(to.event_record, "cuEventRecord", 2000);
    plain(to.event_query, "cuEventQuery", 2000);
    plain(to.event_synchronize, "cuEventSynchronize", 2000);
    return missing;
}

inline void find_optional(cuda_driver& to, const entry_finder& in) noexcept {
    in.find(to.get_error_name, "cuGetErrorName", 6000);
    in.find(to.get_error_string, "cuGetErrorString", 6000);
    in.find(to.device_get_name, "cuDeviceGetName", 2000);
    in.find(to.device_total_mem, "cuDeviceTotalMem", 3020, "cuDeviceTotalMem_v2");
    in.find(to.device_can_access_peer, "cuDeviceCanAccessPeer", 4000);
    in.find(to.device_get_uuid, "cuDeviceGetUuid", 11040, "cuDeviceGetUuid_v2");
    in.find(to.mem_get_info, "cuMemGetInfo", 3020, "cuMemGetInfo_v2");
    in.find(to.mem_alloc, "cuMemAlloc", 3020, "cuMemAlloc_v2");
    in.find(to.mem_free, "cuMemFree", 3020, "cuMemFree_v2");
    in.find(to.mem_get_access, "cuMemGetAccess", 10020);
    in.find(to.mem_export_to_shareable_handle, "cuMemExportToShareableHandle", 10020);
    in.find(to.mem_import_from_shareable_handle, "cuMemImportFromShareableHandle", 10020);
    in.find(to.mem_retain_allocation_handle, "cuMemRetainAllocationHandle", 11000);
    in.find(to.mem_get_allocation_properties_from_handle, "cuMemGetAllocationPropertiesFromHandle", 10020);
}

} // namespace cuda::detail

/// Loads the driver, initialises it and looks whether it has a device. Where the library, an entry or a
/// device is missing, `failure` is `errc::no_device` and `reason` says which; the program goes on. The
/// library stays loaded. Throws std::bad_alloc. A process that will fork must load in the child: the driver
/// does not survive a fork.
[[nodiscard]] inline loaded_driver<cuda_driver> load_cuda_driver(const char* file = "libcuda.so.1") {
    loaded_driver<cuda_driver> loaded;
    const auto fail = [&](int native, std::string reason) {
        loaded.driver = {};
        loaded.failure = error{errc::no_device, verb::construct, native, bytes{0}};
        loaded.reason = std::move(reason);
    };
    const detail::shared_library library{file};
    if (!library) {
        fail(0, "The CUDA driver cannot be loaded: " + library.why() + '.');
        return loaded;
    }
    loaded.library = file;
    const cuda::detail::entry_finder entries{library};
    if (const char* const missing = cuda::detail::find_required(loaded.driver, entries)) {
        fail(0, loaded.library + " is no CUDA driver of CUDA 10.2 or later: it has no " + missing + '.');
        return loaded;
    }
    cuda::detail::find_optional(loaded.driver, entries);

    int devices = 0;
    if (const int native = loaded.driver.init(0); native != cuda::abi::code::success)
        fail(native, loaded.library + " finds no device that it can use: cuInit gives " +
                         std::to_string(native) + '.');
    else if (const int counted = loaded.driver.device_get_count(&devices);
             counted != cuda::abi::code::success)
        fail(counted, loaded.library + " cannot count its devices: cuDeviceGetCount gives " +
                          std::to_string(counted) + '.');
    else if (devices == 0)
        fail(0, loaded.library + " is loaded, but there is no CUDA device.");
    return loaded;
}

} // namespace vtensor
