// SPDX-License-Identifier: Apache-2.0
//
// A simulated machine and its raw table for tests of the simulation, with the few words that differ between
// CUDA and HIP made alike. Nothing is wrapped that is under test: every function is one call of the table.
#pragma once

#include <support/catch.hpp>
#include <support/simulated_driver/cuda.hpp>
#include <support/simulated_driver/hip.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

namespace vtensor::testing {

using simulated::machine_options;
namespace code = simulated::code;

inline constexpr std::size_t mib = std::size_t{1} << 20;
inline constexpr std::size_t page = 2 * mib; ///< the granularity

struct cuda_names {
    using machine = simulated_cuda;
    using driver = cuda_driver;
    using prop = cuda::abi::allocation_prop;
    using access_desc = cuda::abi::access_desc;

    static prop properties(int device, int handle_types, bool rdma) {
        prop made;
        made.type = cuda::abi::allocation_type::pinned;
        made.requested_handle_types = handle_types;
        made.location = {cuda::abi::location_type::device, device};
        made.flags.gpu_direct_rdma_capable = rdma ? 1 : 0;
        return made;
    }
    static void enter(const driver& call) {
        cuda::abi::context made = nullptr;
        REQUIRE(call.device_primary_ctx_retain(&made, 0) == code::success);
        REQUIRE(call.ctx_push_current(made) == code::success);
    }
    static int create_stream(const driver& call, driver::stream* made, unsigned flags) {
        return call.stream_create(made, flags);
    }
    static int create_event(const driver& call, driver::event* made) { return call.event_create(made, 2); }
    static int copy(const driver& call, std::uintptr_t to, std::uintptr_t from, std::size_t size,
                    driver::stream on) {
        return call.memcpy_async(to, from, size, on);
    }
    static int fill(const driver& call, std::uintptr_t to, unsigned char value, std::size_t size,
                    driver::stream on) {
        return call.memset_d8_async(to, value, size, on);
    }
};

struct hip_names {
    using machine = simulated_hip;
    using driver = hip_driver;
    using prop = hip::abi::allocation_prop;
    using access_desc = hip::abi::access_desc;

    static prop properties(int device, int handle_types, bool rdma) {
        prop made;
        made.type = hip::abi::allocation_type::pinned;
        made.requested_handle_type = handle_types;
        made.location = {hip::abi::location_type::device, device};
        made.flags.gpu_direct_rdma_capable = rdma ? 1 : 0;
        return made;
    }
    static void enter(const driver&) {}
    static int create_stream(const driver& call, driver::stream* made, unsigned flags) {
        return call.stream_create_with_flags(made, flags);
    }
    static int create_event(const driver& call, driver::event* made) {
        return call.event_create_with_flags(made, 2);
    }
    static int copy(const driver& call, std::uintptr_t to, std::uintptr_t from, std::size_t size,
                    driver::stream on) {
        return call.memcpy_async(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), size, 4, on);
    }
    static int fill(const driver& call, std::uintptr_t to, unsigned char value, std::size_t size,
                    driver::stream on) {
        return call.memset_async(reinterpret_cast<void*>(to), value, size, on);
    }
};

/// A machine that has been initialised, with the primary context of device 0 current (CUDA).
template <class Names>
struct scene {
    using driver = typename Names::driver;
    using pointer = typename driver::pointer;
    using handle = typename driver::handle;
    using stream = typename driver::stream;
    using event = typename driver::event;
    using prop = typename Names::prop;

    explicit scene(machine_options options = {}) : machine{std::move(options)}, call{machine.driver()} {
        REQUIRE(call.init(0) == code::success);
        Names::enter(call);
        machine.clear_log();
    }

    typename Names::machine machine;
    const driver call;

    static pointer at(std::uintptr_t where) { return simulated::object_of<pointer>(where); }
    static std::byte* bytes_at(std::uintptr_t where) { return reinterpret_cast<std::byte*>(where); }
    static prop properties(int device = 0, int handle_types = 0, bool rdma = false) {
        return Names::properties(device, handle_types, rdma);
    }

    // ---- calls that must succeed ----

    [[nodiscard]] std::uintptr_t reserve(std::size_t size) {
        pointer where{};
        REQUIRE(call.mem_address_reserve(&where, size, 0, pointer{}, 0) == code::success);
        return simulated::number_of(where);
    }
    [[nodiscard]] handle create(std::size_t size = page, const prop& with = properties()) {
        handle made{};
        REQUIRE(call.mem_create(&made, size, &with, 0) == code::success);
        return made;
    }
    void map(std::uintptr_t where, handle memory, std::size_t size = page) {
        REQUIRE(call.mem_map(at(where), size, 0, memory, 0) == code::success);
    }
    /// Fresh memory at that address, with its handle released: it lives as long as the mapping.
    void map_fresh(std::uintptr_t where, std::size_t size = page, const prop& with = properties()) {
        const handle memory = create(size, with);
        map(where, memory, size);
        REQUIRE(call.mem_release(memory) == code::success);
    }
    /// An accessible page in a reservation of its own.
    [[nodiscard]] std::uintptr_t accessible(std::size_t size = page) {
        const std::uintptr_t where = reserve(size);
        map_fresh(where, size);
        REQUIRE(grant(where, size) == code::success);
        return where;
    }
    [[nodiscard]] stream make_stream(unsigned flags = 1) {
        stream made{};
        REQUIRE(Names::create_stream(call, &made, flags) == code::success);
        return made;
    }
    [[nodiscard]] event make_event() {
        event made{};
        REQUIRE(Names::create_event(call, &made) == code::success);
        return made;
    }

    // ---- calls whose result is asked for ----

    [[nodiscard]] int grant(std::uintptr_t where, std::size_t size, int flags = 3, int device = 0) {
        const typename Names::access_desc wish{{1, device}, flags};
        return call.mem_set_access(at(where), size, &wish, 1);
    }
    [[nodiscard]] int unmap(std::uintptr_t where, std::size_t size) {
        return call.mem_unmap(at(where), size);
    }
    [[nodiscard]] int free(std::uintptr_t where, std::size_t size) {
        return call.mem_address_free(at(where), size);
    }
    [[nodiscard]] int copy(std::uintptr_t to, std::uintptr_t from, std::size_t size, stream on) {
        return Names::copy(call, to, from, size, on);
    }
    [[nodiscard]] int fill(std::uintptr_t to, unsigned char value, std::size_t size, stream on) {
        return Names::fill(call, to, value, size, on);
    }

    /// True where nothing of memory and addresses is left.
    [[nodiscard]] bool empty() {
        const simulated::leak_report alive = machine.leaks();
        INFO("left: " << to_string(alive));
        CHECK(alive.physical_bytes == 0);
        return alive.reservations == 0 && alive.mappings == 0 && alive.handles == 0 &&
               alive.plain_allocations == 0 && alive.physical_bytes == 0;
    }
};

} // namespace vtensor::testing
