// SPDX-License-Identifier: Apache-2.0
//
// The HIP runtime as one table of functions, taken at run time from libamdhip64.so: a program built with it
// starts on a machine without a GPU, and a test can hand in a table of its own.
#pragma once

#include <vtensor/backends/detail/shared_library.hpp>
#include <vtensor/backends/hip/abi.hpp>

#include <cstddef>
#include <string>
#include <utility>

namespace vtensor {

/// One pointer for each entry that the library calls, with the runtime's own order of arguments and meaning;
/// hipError_t is `int`. A member is called as its entry without "hip"; only hipMalloc and hipFree are
/// `mem_alloc` and `mem_free`, as their CUDA twins. Plain data: the functions are the runtime's.
struct hip_driver {
    using abi_device = hip::abi::device;
    using pointer = hip::abi::device_pointer;
    using handle = hip::abi::allocation_handle;
    using stream = hip::abi::stream;
    using event = hip::abi::event;
    using bits = unsigned long long;

    int (*init)(unsigned flags) = nullptr;
    int (*runtime_get_version)(int* version) = nullptr;

    int (*get_device_count)(int* count) = nullptr;
    int (*set_device)(abi_device device) = nullptr; ///< of the calling thread
    int (*get_device)(abi_device* device) = nullptr;
    int (*device_get_attribute)(int* value, int attribute, abi_device device) = nullptr;

    /// `properties` is an `allocation_prop`, or an `allocation_prop_5_2` for runtimes before
    /// `first_with_allocation_prop`: here and below.
    int (*mem_get_allocation_granularity)(std::size_t* bytes, const void* properties, int which) = nullptr;
    int (*mem_address_reserve)(pointer* where, std::size_t bytes, std::size_t align, pointer hint,
                               bits flags) = nullptr;
    int (*mem_address_free)(pointer where, std::size_t bytes) = nullptr;
    int (*mem_create)(handle* made, std::size_t bytes, const void* properties, bits flags) = nullptr;
    int (*mem_release)(handle memory) = nullptr;
    int (*mem_map)(pointer where, std::size_t bytes, std::size_t offset, handle memory, bits flags) = nullptr;
    int (*mem_unmap)(pointer where, std::size_t bytes) = nullptr;
    int (*mem_set_access)(pointer where, std::size_t bytes, const hip::abi::access_desc* list,
                          std::size_t count) = nullptr;

    int (*mem_alloc)(pointer* where, std::size_t bytes) = nullptr;
    int (*mem_free)(pointer where) = nullptr;
    int (*memcpy_async)(void* to, const void* from, std::size_t bytes, int kind, stream on) = nullptr;
    int (*memset_async)(void* to, int value, std::size_t bytes, stream on) = nullptr;
    int (*stream_create_with_flags)(stream* made, unsigned flags) = nullptr;
    int (*stream_destroy)(stream gone) = nullptr;
    int (*stream_synchronize)(stream waited_for) = nullptr;
    int (*stream_query)(stream asked) = nullptr;
    int (*stream_wait_event)(stream waiting, event waited_for, unsigned flags) = nullptr;
    int (*event_create_with_flags)(event* made, unsigned flags) = nullptr;
    int (*event_destroy)(event gone) = nullptr;
    int (*event_record)(event recorded, stream on) = nullptr;
    int (*event_query)(event asked) = nullptr;
    int (*event_synchronize)(event waited_for) = nullptr;

    // ---- optional: null where the runtime lacks them, and what needs them is reported as off ----

    int (*driver_get_version)(int* version) = nullptr;
    const char* (*get_error_name)(int code) = nullptr;
    const char* (*get_error_string)(int code) = nullptr;
    int (*get_last_error)() = nullptr; ///< also forgets it: a handled failure would surprise the caller later
    int (*device_get_name)(char* name, int length, abi_device device) = nullptr;
    int (*device_total_mem)(std::size_t* bytes, abi_device device) = nullptr;
    int (*device_can_access_peer)(int* can, abi_device device, abi_device peer) = nullptr;
    int (*device_get_uuid)(hip::abi::uuid* uuid, abi_device device) = nullptr;
    /// The architecture, from HIP 6.0 on; before, by the next one.
    int (*get_device_properties_r0600)(hip::abi::device_prop_r0600* properties, abi_device device) = nullptr;
    int (*get_device_properties)(hip::abi::device_prop_r0000* properties, abi_device device) = nullptr;
    int (*mem_get_info)(std::size_t* free_bytes, std::size_t* total_bytes) = nullptr;
    int (*mem_get_access)(bits* flags, const hip::abi::location* who, pointer where) = nullptr;
    int (*mem_export_to_shareable_handle)(void* exported, handle memory, int type, bits flags) = nullptr;
    /// `exported` is the descriptor's value or its address, depending on the runtime's version.
    int (*mem_import_from_shareable_handle)(handle* made, void* exported, int type) = nullptr;
    int (*mem_retain_allocation_handle)(handle* retained, void* where) = nullptr;
    int (*mem_get_allocation_properties_from_handle)(void* properties, handle memory) = nullptr;
};

namespace hip::detail {

/// Fills the entries without which there is no backend. The name of the first that is missing, or null.
inline const char* find_required(hip_driver& to, const vtensor::detail::shared_library& in) noexcept {
    const char* missing = nullptr;
    const auto need = [&](auto*& function, const char* entry) {
        in.find(function, entry);
        if (function == nullptr && missing == nullptr)
            missing = entry;
    };
    need(to.init, "hipInit");
    need(to.runtime_get_version, "hipRuntimeGetVersion");
    need(to.get_device_count, "hipGetDeviceCount");
    need(to.set_device, "hipSetDevice");
    need(to.get_device, "hipGetDevice");
    need(to.device_get_attribute, "hipDeviceGetAttribute");
    need(to.mem_get_allocation_granularity, "hipMemGetAllocationGranularity");
    need(to.mem_address_reserve, "hipMemAddressReserve");
    need(to.mem_address_free, "hipMemAddressFree");
    need(to.mem_create, "hipMemCreate");
    need(to.mem_release, "hipMemRelease");
    need(to.mem_map, "hipMemMap");
    need(to.mem_unmap, "hipMemUnmap");
    need(to.mem_set_access, "hipMemSetAccess");
    need(to.mem_alloc, "hipMalloc");
    need(to.mem_free, "hipFree");
    need(to.memcpy_async, "hipMemcpyAsync");
    need(to.memset_async, "hipMemsetAsync");
    need(to.stream_create_with_flags, "hipStreamCreateWithFlags");
    need(to.stream_destroy, "hipStreamDestroy");
    need(to.stream_synchronize, "hipStreamSynchronize");
    need(to.stream_query, "hipStreamQuery");
    need(to.stream_wait_event, "hipStreamWaitEvent");
    need(to.event_create_with_flags, "hipEventCreateWithFlags");
    need(to.event_destroy, "hipEventDestroy");
    need(to.event_record, "hipEventRecord");
    need(to.event_query, "hipEventQuery");
    need(to.event_synchronize, "hipEventSynchronize");
    return missing;
}

inline void find_optional(hip_driver& to, const vtensor::detail::shared_library& in) noexcept {
    in.find(to.driver_get_version, "hipDriverGetVersion");
    in.find(to.get_error_name, "hipGetErrorName");
    in.find(to.get_error_string, "hipGetErrorString");
    in.find(to.get_last_error, "hipGetLastError");
    in.find(to.device_get_name, "hipDeviceGetName");
    in.find(to.device_total_mem, "hipDeviceTotalMem");
    in.find(to.device_can_access_peer, "hipDeviceCanAccessPeer");
    in.find(to.device_get_uuid, "hipDeviceGetUuid");
    in.find(to.get_device_properties_r0600, "hipGetDevicePropertiesR0600");
    in.find(to.get_device_properties, "hipGetDeviceProperties");
    in.find(to.mem_get_info, "hipMemGetInfo");
    in.find(to.mem_get_access, "hipMemGetAccess");
    in.find(to.mem_export_to_shareable_handle, "hipMemExportToShareableHandle");
    in.find(to.mem_import_from_shareable_handle, "hipMemImportFromShareableHandle");
    in.find(to.mem_retain_allocation_handle, "hipMemRetainAllocationHandle");
    in.find(to.mem_get_allocation_properties_from_handle, "hipMemGetAllocationPropertiesFromHandle");
}

/// Takes the table from one file, as `load_hip_driver` says.
inline loaded_driver<hip_driver> load_from(const char* file) {
    loaded_driver<hip_driver> loaded;
    const auto fail = [&](int native, std::string reason) {
        loaded.driver = {};
        loaded.failure = error{errc::no_device, verb::construct, native, bytes{0}};
        loaded.reason = std::move(reason);
    };
    const vtensor::detail::shared_library library{file};
    if (!library) {
        fail(0, "The HIP runtime cannot be loaded: " + library.why() + '.');
        return loaded;
    }
    loaded.library = file;
    if (const char* const missing = find_required(loaded.driver, library)) {
        fail(0, loaded.library + " is no HIP runtime with virtual memory: it has no " + missing + '.');
        return loaded;
    }
    find_optional(loaded.driver, library);

    int devices = 0;
    if (const int native = loaded.driver.init(0); native != abi::code::success)
        fail(native, loaded.library + " finds no device that it can use: hipInit gives " +
                         std::to_string(native) + '.');
    else if (const int counted = loaded.driver.get_device_count(&devices); counted != abi::code::success)
        fail(counted, loaded.library + " cannot count its devices: hipGetDeviceCount gives " +
                          std::to_string(counted) + '.');
    else if (devices == 0)
        fail(0, loaded.library + " is loaded, but there is no HIP device.");
    return loaded;
}

} // namespace hip::detail

/// Loads the runtime from that file, or, given none, from the newest libamdhip64.so that is installed,
/// initialises it and looks whether it has a device. Where the library, an entry or a device is missing,
/// `failure` is `errc::no_device` and `reason` says which; the program goes on. The library stays loaded.
/// Throws std::bad_alloc. A process that will fork must load in the child: the runtime does not survive a
/// fork.
[[nodiscard]] inline loaded_driver<hip_driver> load_hip_driver(const char* file = nullptr) {
    if (file != nullptr)
        return hip::detail::load_from(file);
    loaded_driver<hip_driver> loaded;
    for (const char* const name :
         {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"}) {
        loaded = hip::detail::load_from(name);
        if (!loaded.library.empty())
            break; // two versions of a runtime in one process do not go together
    }
    return loaded;
}

} // namespace vtensor
