// SPDX-License-Identifier: Apache-2.0
//
// Devices on simulated drivers with streams of the program's own: what tests of queued work stand on. A list
// of them is for TEMPLATE_LIST_TEST_CASE.
#pragma once

#include <conformance/device_fixtures.hpp>
#include <support/catch.hpp>
#include <support/simulated_driver/cuda.hpp>
#include <support/simulated_driver/hip.hpp>

#include <vtensor/backends/cuda.hpp>
#include <vtensor/backends/hip.hpp>
#include <vtensor/memory/chunk_pool.hpp>

#include <cstddef>
#include <optional>
#include <tuple>

namespace vtensor::testing {

struct cuda_device {
    using machine_type = simulated_cuda;
    using backend_type = cuda_backend;
    using driver_type = cuda_driver;

    static simulated::machine_options machine() { return {}; }
    static cuda_options options(const simulated_cuda& on) { return {.driver = on.driver()}; }
    static auto create(const cuda_driver& driver, CUstream_st*& stream) {
        return driver.stream_create(&stream, cuda::abi::stream_flags::non_blocking);
    }
    static auto enter(const cuda_driver& driver) {
        CUctx_st* context = nullptr;
        return driver.device_primary_ctx_retain(&context, 0) + driver.ctx_push_current(context);
    }
    static auto leave(const cuda_driver& driver) {
        CUctx_st* context = nullptr;
        return driver.ctx_pop_current(&context) + driver.device_primary_ctx_release(0);
    }
};

struct hip_device {
    using machine_type = simulated_hip;
    using backend_type = hip_backend;
    using driver_type = hip_driver;

    static simulated::machine_options machine() { return {}; }
    static hip_options options(const simulated_hip& on) {
        return {.allow_plain_allocation = false, .driver = on.driver()};
    }
    static auto create(const hip_driver& driver, ihipStream_t*& stream) {
        return driver.stream_create_with_flags(&stream, 1);
    }
    static int enter(const hip_driver& driver) { return driver.set_device(0); }
    static int leave(const hip_driver&) { return 0; }
};

/// A runtime whose unmapping of several mappings loses addresses, that reports a granularity which does not
/// work, and that cannot reserve with an alignment.
struct quirky_hip_device : hip_device {
    static simulated::machine_options machine() {
        return {.version = hip::abi::version(7, 14),
                .minimum_granularity = 4096,
                .recommended_granularity = 4096,
                .quirks = {.unmap_of_several_pins_addresses = true,
                           .working_granularity = std::size_t{2} << 20,
                           .reserve_with_alignment_fails = true}};
    }
};

/// A runtime that creates no more than a small piece at once: a page of 16 KiB is four of them, mapped,
/// unmapped and given back one by one.
struct hip_device_in_pieces : hip_device {
    static simulated::machine_options machine() {
        return {.minimum_granularity = 4096,
                .recommended_granularity = 4096,
                .quirks = {.unmap_of_several_fails = true,
                           .largest_create = 4096,
                           .reserve_with_alignment_fails = true}};
    }
    static hip_options options(const simulated_hip& on) {
        device_quirks quirks;
        quirks.largest_piece = bytes{4096};
        quirks.least_granularity = bytes{16384};
        quirks.unmap_one_by_one = true;
        quirks.alignment_unreliable = true;
        return {.allow_plain_allocation = false, .quirks = quirks, .driver = on.driver()};
    }
};

/// A runtime that sets access only from the first mapping of a reservation on.
struct hip_device_from_start : hip_device {
    static simulated::machine_options machine() {
        return {.version = hip::abi::version(7, 2), .quirks = {.set_access_only_from_start = true}};
    }
};

using simulated_devices =
    std::tuple<cuda_device, hip_device, quirky_hip_device, hip_device_in_pieces, hip_device_from_start>;

/// A machine that must end as it began, a backend, a pool, and two streams of the program.
template <class Device>
struct device_world : conformance::clean_machine<typename Device::machine_type> {
    using base = conformance::clean_machine<typename Device::machine_type>;
    using backend_type = typename Device::backend_type;
    using stream_type = typename backend_type::stream_type;
    using base::machine;

    device_world() : base{Device::machine()} {
        REQUIRE(driver.init(0) == 0);
        REQUIRE(Device::enter(driver) == 0);
        REQUIRE(Device::create(driver, first) == 0);
        REQUIRE(Device::create(driver, second) == 0);
    }
    ~device_world() {
        CHECK(driver.stream_destroy(first) == 0);
        CHECK(driver.stream_destroy(second) == 0);
        CHECK(Device::leave(driver) == 0);
    }

    /// Holds the stream up with a kernel on it that reads this range.
    void read(stream_type stream, address start, bytes size) {
        machine.stall(stream);
        REQUIRE(machine.launch(stream, {{start.value(), size.count()}}, {}) == 0);
    }
    [[nodiscard]] bytes mapped(address start, bytes size) {
        return bytes{machine.mapped_bytes(start.to_pointer(), size.count())};
    }
    /// Before the streams go: pool and backend do not outlive them.
    void close() {
        pool.reset();
        memory.reset();
    }

    typename Device::driver_type driver = machine.driver();
    stream_type first{};
    stream_type second{};
    std::optional<backend_type> memory{Device::options(machine)};
    std::optional<chunk_pool<backend_type>> pool{std::in_place, *memory};
    bytes page = memory->granularity();
};

} // namespace vtensor::testing
