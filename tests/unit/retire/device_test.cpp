// SPDX-License-Identifier: Apache-2.0
//
// Retiring pages over the device backends on simulated drivers, which are as strict about work in flight as a
// test can be: on streams of the program's own, with work held up, and with each driver call failing.
#include <support/catch.hpp>
#include <support/fault_loop.hpp>
#include <support/simulated_streams.hpp>

#include <vtensor/virtual_tensor.hpp>

#include <cstddef>
#include <optional>
#include <tuple>

namespace vtensor::testing {
namespace {

using devices = std::tuple<cuda_device, hip_device>;

/// The machine must not have been made to wait.
template <class Device>
struct device_scene : device_world<Device> {
    using base = device_world<Device>;
    using typename base::stream_type;
    using tensor_type = virtual_tensor<std::byte, typename base::backend_type>;
    using base::machine;
    static constexpr bytes page = 2_MiB;

    ~device_scene() { CHECK(machine.calls(simulated::entry::stream_synchronize) == synchronised); }

    /// Holds the stream up with a kernel on it that reads these pages.
    void read(stream_type stream, const tensor_type& tensor, std::size_t from, std::size_t to) {
        base::read(stream, address{tensor.data()} + page * from, page * (to - from));
    }
    [[nodiscard]] std::size_t mapped(address where) { return base::mapped(where, page * 12) / page; }

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
