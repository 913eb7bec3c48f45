// SPDX-License-Identifier: Apache-2.0
#include "scene.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

using namespace vtensor;
using namespace vtensor::testing;
namespace abi = vtensor::cuda::abi;

TEMPLATE_TEST_CASE("nothing works before init", "[simulated]", cuda_names, hip_names) {
    typename TestType::machine machine;
    const auto call = machine.driver();
    const auto with = TestType::properties(0, 0, false);
    typename TestType::driver::handle made{};
    CHECK(call.mem_create(&made, page, &with, 0) == code::not_initialized);
    CHECK(call.init(1) == code::invalid_value);
    CHECK(call.mem_create(&made, page, &with, 0) == code::not_initialized);
    CHECK(call.init(0) == code::success);
    CHECK(call.mem_create(&made, page, &with, 0) == code::success);
}

TEMPLATE_TEST_CASE("a machine without devices says so", "[simulated]", cuda_names, hip_names) {
    machine_options options;
    options.devices = 0;
    typename TestType::machine machine{options};
    CHECK(machine.driver().init(0) == code::no_device);
}

TEMPLATE_TEST_CASE("devices are counted, named and told apart", "[simulated]", cuda_names, hip_names) {
    machine_options options;
    options.devices = 2;
    options.device_name = "A simulated thing";
    options.capacity = 3 * page;
    scene<TestType> s{options};
    std::array<char, 64> name{};
    CHECK(s.call.device_get_name(name.data(), 64, 1) == code::success);
    CHECK(std::string{name.data()} == "A simulated thing");
    CHECK(s.call.device_get_name(name.data(), 5, 1) == code::success);
    CHECK(std::string{name.data()} == "A si");
    CHECK(s.call.device_get_name(name.data(), 0, 1) == code::invalid_value);
    CHECK(s.call.device_get_name(name.data(), 64, 2) == code::invalid_device);
    std::size_t bytes = 0;
    CHECK(s.call.device_total_mem(&bytes, 0) == code::success);
    CHECK(bytes == 3 * page);
    int can = 7;
    CHECK(s.call.device_can_access_peer(&can, 0, 1) == code::success);
    CHECK(can == 1);
    CHECK(s.call.device_can_access_peer(&can, 0, 0) == code::success);
    CHECK(can == 0);
    CHECK(s.call.device_can_access_peer(&can, 0, 2) == code::invalid_device);
    decltype(abi::uuid::bytes) uuids[2] = {};
    for (int device = 0; device < 2; ++device) {
        std::remove_pointer_t<
            std::conditional_t<std::is_same_v<TestType, cuda_names>, abi::uuid*, vtensor::hip::abi::uuid*>>
            uuid;
        REQUIRE(s.call.device_get_uuid(&uuid, device) == code::success);
        std::memcpy(uuids[device], uuid.bytes, sizeof uuid.bytes);
    }
    CHECK_FALSE(std::equal(std::begin(uuids[0]), std::end(uuids[0]), std::begin(uuids[1])));
}

TEST_CASE("a CUDA device answers for its attributes", "[simulated]") {
    machine_options options;
    options.sharing.fabric_supported = true;
    options.virtual_memory_supported = false;
    scene<cuda_names> s{options};
    int count = 0;
    CHECK(s.call.device_get_count(&count) == code::success);
    CHECK(count == 1);
    int device = 7;
    CHECK(s.call.device_get(&device, 0) == code::success);
    CHECK(device == 0);
    CHECK(s.call.device_get(&device, 1) == code::invalid_device);
    const auto attribute = [&](int which) {
        int value = -1;
        REQUIRE(s.call.device_get_attribute(&value, which, 0) == code::success);
        return value;
    };
    CHECK(attribute(abi::attribute::posix_descriptor_handles) == 1);
    CHECK(attribute(abi::attribute::fabric_handles) == 1);
    CHECK(attribute(abi::attribute::gpu_direct_rdma_with_vmm) == 0);
    CHECK(attribute(abi::attribute::virtual_memory_management) == 0);
    int value = 0;
    CHECK(s.call.device_get_attribute(&value, 100'000, 0) == code::invalid_value);

    // Without virtual memory the verbs say that too.
    const auto with = s.properties();
    std::size_t unit = 0;
    CHECK(s.call.mem_get_allocation_granularity(&unit, &with, 0) == code::not_supported);

    machine_options old;
    old.version = 12'020;
    scene<cuda_names> t{old};
    CHECK(t.call.device_get_attribute(&value, abi::attribute::fabric_handles, 0) == code::invalid_value);
    int version = 0;
    CHECK(t.call.driver_get_version(&version) == code::success);
    CHECK(version == 12'020);
}

TEST_CASE("a HIP runtime tells its version, its architecture, and the attribute where it has one",
          "[simulated]") {
    namespace hip = vtensor::hip::abi;
    int value = -1;
    machine_options options;
    options.architecture = "gfx1100";
    scene<hip_names> now{options};
    REQUIRE(now.call.device_get_attribute(&value, 89, 0) == code::success);
    CHECK(value == 1);
    CHECK(now.call.get_device_properties == nullptr);
    hip::device_prop_r0600 properties;
    REQUIRE(now.call.get_device_properties_r0600(&properties, 0) == code::success);
    CHECK(std::string{properties.gcn_arch_name} == "gfx1100");

    options.version = hip::version(5, 2, 21153);
    scene<hip_names> old{options};
    CHECK(old.call.device_get_attribute(&value, 89, 0) == code::invalid_value);
    CHECK(old.call.get_device_properties_r0600 == nullptr);
    hip::device_prop_r0000 before;
    REQUIRE(old.call.get_device_properties(&before, 0) == code::success);
    CHECK(std::string{before.gcn_arch_name} == "gfx1100");
    REQUIRE(old.call.runtime_get_version(&value) == code::success);
    CHECK(value == hip::version(5, 2, 21153));
}

TEST_CASE("a HIP runtime of 5.2 reads the properties in its own order", "[simulated]") {
    namespace hip = vtensor::hip::abi;
    machine_options options;
    options.version = hip::version(5, 2, 21153);
    scene<hip_names> s{options};
    hip_driver::handle made{};
    const hip::allocation_prop later = s.properties();
    CHECK(s.call.mem_create(&made, page, &later, 0) != code::success);
    hip::allocation_prop_5_2 with;
    with.type = hip::allocation_type::pinned;
    with.location = {hip::location_type::device, 0};
    with.requested_handle_type = hip::handle_type::posix_descriptor;
    REQUIRE(s.call.mem_create(&made, page, &with, 0) == code::success);
    hip::allocation_prop_5_2 told;
    REQUIRE(s.call.mem_get_allocation_properties_from_handle(&told, made) == code::success);
    CHECK(told.type == with.type);
    CHECK(told.requested_handle_type == with.requested_handle_type);
    CHECK(told.location == with.location);
}

TEST_CASE("HIP keeps the last error until it is asked for", "[simulated]") {
    scene<hip_names> s;
    CHECK(s.call.get_last_error() == code::success);
    CHECK(s.call.mem_release(hip_driver::handle{}) == code::invalid_value);
    CHECK(s.call.init(0) == code::success); // a success does not clear it
    CHECK(s.call.get_last_error() == code::invalid_value);
    CHECK(s.call.get_last_error() == code::success);
}

TEMPLATE_TEST_CASE("several machines do not know each other", "[simulated]", cuda_names, hip_names) {
    scene<TestType> s;
    {
        scene<TestType> t;
        const std::uintptr_t where = t.accessible();
        CHECK(s.unmap(where, page) == code::invalid_value);
        CHECK(s.machine.calls(simulated::entry::mem_map) == 0);
        CHECK(t.machine.calls(simulated::entry::mem_map) == 1);
        CHECK(s.empty());
    }
    typename TestType::driver gone;
    {
        typename TestType::machine machine;
        gone = machine.driver();
    }
    CHECK(gone.init(0) == simulated::deinitialized);
}
