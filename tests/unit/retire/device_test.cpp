// SPDX-License-Identifier: Apache-2.0
//
// Retiring pages over the device backends on simulated drivers, which are as strict about work in flight as a
// test can be: on streams of the program's own, with work held up, and with each driver call failing.
#include <conformance/device_fixtures.hpp>
#include <support/catch.hpp>
#include <support/fault_loop.hpp>
#include <support/simulated_driver/cuda.hpp>
#include <support/simulated_driver/hip.hpp>

#include <vtensor/backends/cuda.hpp>
#include <vtensor/backends/hip.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cstddef>
#include <optional>
#include <tuple>

namespace vtensor::testing {
namespace {

struct cuda_device {
    using machine_type = simulated_cuda;
    using backend_type = cuda_backend;
    using options_type = cuda_options;
    using driver_type = cuda_driver;
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
    using options_type = hip_options;
    using driver_type = hip_driver;
    static auto create(const hip_driver& driver, ihipStream_t*& stream) {
        return driver.stream_create_with_flags(&stream, 1);
    }
    static int enter(const hip_driver& driver) { return driver.set_device(0); }
    static int leave(const hip_driver&) { return 0; }
};
using devices = std::tuple<cuda_device, hip_device>;

/// A machine, a pool and two streams of the program.
template <class Device>
struct device_scene : conformance::clean_machine<typename Device::machine_type> {
    using base = conformance::clean_machine<typename Device::machine_type>;
    using backend_type = typename Device::backend_type;
    using stream_type = typename backend_type::stream_type;
    using tensor_type = virtual_tensor<std::byte, backend_type>;
    using base::machine;
    static constexpr bytes page = 2_MiB;

    device_scene() : base{simulated::machine_options{}} {
        REQUIRE(driver.init(0) == 0);
        REQUIRE(Device::enter(driver) == 0);
        REQUIRE(Device::create(driver, first) == 0);
        REQUIRE(Device::create(driver, second) == 0);
    }
    ~device_scene() {
        CHECK(machine.calls(simulated::entry::stream_synchronize) == synchronised);
        CHECK(driver.stream_destroy(first) == 0);
        CHECK(driver.stream_destroy(second) == 0);
        CHECK(Device::leave(driver) == 0);
    }

    /// Holds the stream up with a kernel on it that reads these pages.
    void read(stream_type stream, const tensor_type& tensor, std::size_t from, std::size_t to) {
        machine.stall(stream);
        const address where = address{tensor.data()} + page * from;
        REQUIRE(machine.launch(stream, {{where.value(), (page * (to - from)).count()}}, {}) == 0);
    }
    [[nodiscard]] std::size_t mapped(address where) {
        return machine.mapped_bytes(where.to_pointer(), (page * 12).count()) / page.count();
    }

    typename Device::driver_type driver = machine.driver();
    stream_type first{};
    stream_type second{};
    std::optional<backend_type> memory{typename Device::options_type{.driver = machine.driver()}};
    std::optional<chunk_pool<backend_type>> pool{std::in_place, *memory};
    std::size_t synchronised = machine.calls(simulated::entry::stream_synchronize); ///< by the self-test
};

} // namespace

TEMPLATE_LIST_TEST_CASE("device pages retire, come back, and go when their readers are done", "[device]",
                        devices) {
    device_scene<TestType> scene;
    typename device_scene<TestType>::tensor_type tensor{*scene.pool, {scene.page.count()}, 12};
    tensor.append(8);
    const address start{tensor.data()};
    scene.read(scene.first, tensor, 2, 8);
    tensor.resize(2, scene.first);
    tensor.append(4); // taken back
    scene.read(scene.second, tensor, 1, 6);
    tensor.resize(1, scene.second);
    CHECK(tensor.verify());
    scene.machine.resume(scene.second); // which waits for the first
    REQUIRE(scene.pool->retiring().reclaim());
    CHECK(scene.mapped(start) == 8);
    scene.machine.resume(scene.first);
    REQUIRE(scene.pool->retiring().reclaim());
    CHECK(scene.mapped(start) == 1);
    CHECK(scene.machine.calls(simulated::entry::event_synchronize) == 0);
    CHECK(scene.machine.calls(simulated::entry::event_create) == scene.pool->retiring().stats().events);
}

TEMPLATE_LIST_TEST_CASE("a device tensor may be destroyed under running work, and its pool waits for it",
                        "[device]", devices) {
    device_scene<TestType> scene;
    address start;
    {
        typename device_scene<TestType>::tensor_type tensor{*scene.pool, {scene.page.count()}, 12};
        tensor.append(5);
        start = address{tensor.data()};
        scene.read(scene.first, tensor, 0, 5);
        tensor.retire(scene.first);
        tensor.append(3);
    }
    CHECK(scene.mapped(start) == 5);
    scene.machine.resume(scene.first);
    scene.pool.reset();
    CHECK(scene.machine.mapping_count() == 0);
    scene.memory.reset();
}

TEMPLATE_LIST_TEST_CASE("growing over device pages that retire changes nothing where a driver call fails",
                        "[device]", devices) {
    device_scene<TestType> scene;
    typename device_scene<TestType>::tensor_type tensor{*scene.pool, {scene.page.count()}, 12};
    const auto prepare = [&] {
        scene.machine.resume_all();
        tensor.resize(0);
        REQUIRE(scene.pool->retiring().drain());
        REQUIRE(scene.pool->trim());
        tensor.append(6);
        scene.read(scene.first, tensor, 2, 6);
        tensor.resize(2, scene.first);
    };
    for (const auto length : {fault_length::one, fault_length::with_undo}) {
        prepare();
        simulated::driver_faults faults{scene.machine, simulated::code::unknown};
        const std::size_t met = for_each_failing_call(
            faults, [&] { return tensor.try_resize(9).ok(); },
            [&](std::size_t) {
                CHECK(tensor.rows() == 2);
                CHECK(tensor.mapped_bytes() == 2 * scene.page);
                CHECK(tensor.retiring_bytes() == 4 * scene.page);
                CHECK(scene.mapped(address{tensor.data()}) == 6);
                CHECK(tensor.verify());
                tensor.resize(6); // nothing to call
                prepare();
            },
            prepare, errc::native_failure, length);
        CHECK(met >= 7); // three creates, three maps, one set_access
        CHECK(tensor.verify());
        CHECK(tensor.rows() == 9);
    }
    scene.machine.resume_all();
}

} // namespace vtensor::testing
