// SPDX-License-Identifier: Apache-2.0
//
// The entries of a driver's table, over the simulated machine of one slot. CUDA and HIP differ in their types
// and in a few entries; what they share is here once.
#pragma once

#include <support/simulated_driver/machine.hpp>
#include <support/simulated_driver/slots.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace vtensor::testing::simulated {

inline constexpr int deinitialized = 4;
static_assert(deinitialized == cuda::abi::code::deinitialized &&
              deinitialized == hip::abi::code::deinitialized);

/// The number that stands for a handle, an address, a stream, an event or a context.
template <class Object>
[[nodiscard]] std::uint64_t number_of(Object object) noexcept {
    if constexpr (std::is_pointer_v<Object>)
        return reinterpret_cast<std::uintptr_t>(object);
    else
        return object;
}
template <class Object>
[[nodiscard]] Object object_of(std::uint64_t number) noexcept {
    if constexpr (std::is_pointer_v<Object>)
        return reinterpret_cast<Object>(static_cast<std::uintptr_t>(number));
    else
        return number;
}

[[nodiscard]] constexpr const char* text_of(int result) noexcept {
    switch (result) {
    case code::success:
        return "simulated: success";
    case code::invalid_value:
        return "simulated: invalid value";
    case code::out_of_memory:
        return "simulated: out of memory";
    case code::not_initialized:
        return "simulated: not initialized";
    case code::no_device:
        return "simulated: no device";
    case code::invalid_device:
        return "simulated: invalid device";
    case code::invalid_context:
        return "simulated: invalid context";
    case code::operating_system:
        return "simulated: the operating system refuses";
    case code::invalid_handle:
        return "simulated: invalid handle";
    case code::not_ready:
        return "simulated: not ready";
    case code::illegal_address:
        return "simulated: illegal address";
    case code::not_supported:
        return "simulated: not supported";
    case code::unknown:
        return "simulated: unknown error";
    default:
        return nullptr;
    }
}

/// `Api` names the types: machine, driver, and what tells a request from the driver's own properties.
template <class Api, std::size_t Slot>
struct driver_entries {
    using machine = typename Api::machine;
    using handle = typename Api::driver::handle;
    using pointer = typename Api::driver::pointer;
    using stream = typename Api::driver::stream;
    using event = typename Api::driver::event;
    using prop = typename Api::prop; ///< `void` where the table says so
    using bits = unsigned long long;

    template <class Function>
    static int with(Function function) noexcept {
        machine* const at = machine_slots<machine>::at(Slot);
        return at == nullptr ? deinitialized : function(*at);
    }
    /// For entries that give out an object: the function gets the place for its number.
    template <class Object, class Function>
    static int give(Object* place, Function function) noexcept {
        std::uint64_t made = 0;
        const int result = with([&](machine& m) { return function(m, place == nullptr ? nullptr : &made); });
        if (result == code::success && place != nullptr)
            *place = object_of<Object>(made);
        return result;
    }
    /// For entries that take properties: the function gets them as a request.
    template <class Function>
    static int with_request(machine& m, const prop* given, Function function) noexcept {
        if (given == nullptr)
            return function(nullptr);
        const memory_request wanted = Api::request(m, given);
        return function(&wanted);
    }

    // ---- devices ----

    static int init(unsigned flags) noexcept {
        return with([&](machine& m) { return m.init(flags); });
    }
    static int version(int* given) noexcept {
        return with([&](machine& m) { return m.version(given); });
    }
    static int device_count(int* count) noexcept {
        return with([&](machine& m) { return m.device_get_count(count); });
    }
    static int device_get_name(char* name, int length, int device) noexcept {
        return with([&](machine& m) { return m.device_get_name(name, length, device); });
    }
    static int device_get_attribute(int* value, int attribute, int device) noexcept {
        return with([&](machine& m) {
            return m.device_get_attribute(value, device,
                                          [&] { return Api::attribute(m.options(), attribute); });
        });
    }
    static int device_total_mem(std::size_t* bytes, int device) noexcept {
        return with([&](machine& m) { return m.device_total_mem(bytes, device); });
    }
    static int device_can_access_peer(int* can, int device, int peer) noexcept {
        return with([&](machine& m) { return m.device_can_access_peer(can, device, peer); });
    }
    static int device_get_uuid(typename Api::uuid* uuid, int device) noexcept {
        return with(
            [&](machine& m) { return m.device_get_uuid(uuid == nullptr ? nullptr : uuid->bytes, device); });
    }

    // ---- virtual memory ----

    static int mem_get_allocation_granularity(std::size_t* bytes, const prop* given, int which) noexcept {
        return with([&](machine& m) {
            return with_request(
                m, given, [&](const memory_request* wanted) { return m.granularity(bytes, wanted, which); });
        });
    }
    static int mem_address_reserve(pointer* where, std::size_t size, std::size_t align, pointer hint,
                                   bits flags) noexcept {
        return give(where, [&](machine& m, std::uint64_t* place) {
            return m.reserve(place, size, align, number_of(hint), flags);
        });
    }
    static int mem_address_free(pointer where, std::size_t size) noexcept {
        return with([&](machine& m) { return m.address_free(number_of(where), size); });
    }
    static int mem_create(handle* made, std::size_t size, const prop* given, bits flags) noexcept {
        return give(made, [&](machine& m, std::uint64_t* place) {
            return with_request(
                m, given, [&](const memory_request* wanted) { return m.create(place, size, wanted, flags); });
        });
    }
    static int mem_release(handle gone) noexcept {
        return with([&](machine& m) { return m.release(number_of(gone)); });
    }
    static int mem_map(pointer where, std::size_t size, std::size_t offset, handle mapped,
                       bits flags) noexcept {
        return with(
            [&](machine& m) { return m.map(number_of(where), size, offset, number_of(mapped), flags); });
    }
    static int mem_unmap(pointer where, std::size_t size) noexcept {
        return with([&](machine& m) { return m.unmap(number_of(where), size); });
    }
    static int mem_set_access(pointer where, std::size_t size, const typename Api::access_desc* list,
                              std::size_t count) noexcept {
        return with([&](machine& m) { return m.set_access(number_of(where), size, list, count); });
    }
    static int mem_get_access(bits* flags, const typename Api::location* who, pointer where) noexcept {
        return with([&](machine& m) { return m.get_access(flags, who, number_of(where)); });
    }
    static int mem_export_to_shareable_handle(void* exported, handle from, int type, bits flags) noexcept {
        return with([&](machine& m) { return m.export_memory(exported, number_of(from), type, flags); });
    }
    static int mem_import_from_shareable_handle(handle* made, void* exported, int type) noexcept {
        return give(made,
                    [&](machine& m, std::uint64_t* place) { return m.import_memory(place, exported, type); });
    }
    static int mem_retain_allocation_handle(handle* retained, void* where) noexcept {
        return give(retained,
                    [&](machine& m, std::uint64_t* place) { return m.retain(place, number_of(where)); });
    }
    static int mem_get_allocation_properties_from_handle(prop* given, handle of) noexcept {
        return with([&](machine& m) {
            return m.properties(given, number_of(of),
                                [&](const memory_properties& found) { Api::tell(m, given, found); });
        });
    }
    static int mem_get_info(std::size_t* free_bytes, std::size_t* total_bytes) noexcept {
        return with([&](machine& m) { return m.get_info(free_bytes, total_bytes); });
    }
    static int mem_alloc(pointer* where, std::size_t size) noexcept {
        return give(where, [&](machine& m, std::uint64_t* place) { return m.alloc(place, size); });
    }
    static int mem_free(pointer where) noexcept {
        return with([&](machine& m) { return m.free(number_of(where)); });
    }

    // ---- streams and events ----

    static int stream_create(stream* made, unsigned flags) noexcept {
        return give(made, [&](machine& m, std::uint64_t* place) { return m.stream_create(place, flags); });
    }
    static int stream_destroy(stream gone) noexcept {
        return with([&](machine& m) { return m.stream_destroy(number_of(gone)); });
    }
    static int stream_synchronize(stream waited_for) noexcept {
        return with([&](machine& m) { return m.stream_synchronize(number_of(waited_for)); });
    }
    static int stream_query(stream asked) noexcept {
        return with([&](machine& m) { return m.stream_query(number_of(asked)); });
    }
    static int stream_wait_event(stream waiting, event waited_for, unsigned flags) noexcept {
        return with([&](machine& m) {
            return m.stream_wait_event(number_of(waiting), number_of(waited_for), flags);
        });
    }
    static int event_create(event* made, unsigned flags) noexcept {
        return give(made, [&](machine& m, std::uint64_t* place) { return m.event_create(place, flags); });
    }
    static int event_destroy(event gone) noexcept {
        return with([&](machine& m) { return m.event_destroy(number_of(gone)); });
    }
    static int event_record(event recorded, stream on) noexcept {
        return with([&](machine& m) { return m.event_record(number_of(recorded), number_of(on)); });
    }
    static int event_query(event asked) noexcept {
        return with([&](machine& m) { return m.event_query(number_of(asked)); });
    }
    static int event_synchronize(event waited_for) noexcept {
        return with([&](machine& m) { return m.event_synchronize(number_of(waited_for)); });
    }

    /// Everything above, for a table that names it alike.
    static void fill_shared(typename Api::driver& table) noexcept {
        table.init = init;
        table.device_get_attribute = device_get_attribute;
        table.device_get_name = device_get_name;
        table.device_total_mem = device_total_mem;
        table.device_can_access_peer = device_can_access_peer;
        table.device_get_uuid = device_get_uuid;
        table.mem_get_allocation_granularity = mem_get_allocation_granularity;
        table.mem_address_reserve = mem_address_reserve;
        table.mem_address_free = mem_address_free;
        table.mem_create = mem_create;
        table.mem_release = mem_release;
        table.mem_map = mem_map;
        table.mem_unmap = mem_unmap;
        table.mem_set_access = mem_set_access;
        table.mem_get_access = mem_get_access;
        table.mem_export_to_shareable_handle = mem_export_to_shareable_handle;
        table.mem_import_from_shareable_handle = mem_import_from_shareable_handle;
        table.mem_retain_allocation_handle = mem_retain_allocation_handle;
        table.mem_get_allocation_properties_from_handle = mem_get_allocation_properties_from_handle;
        table.mem_get_info = mem_get_info;
        table.mem_alloc = mem_alloc;
        table.mem_free = mem_free;
        table.stream_destroy = stream_destroy;
        table.stream_synchronize = stream_synchronize;
        table.stream_query = stream_query;
        table.stream_wait_event = stream_wait_event;
        table.event_destroy = event_destroy;
        table.event_record = event_record;
        table.event_query = event_query;
        table.event_synchronize = event_synchronize;
    }
};

} // namespace vtensor::testing::simulated
