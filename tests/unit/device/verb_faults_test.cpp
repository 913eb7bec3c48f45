// SPDX-License-Identifier: Apache-2.0
// Each call of the driver is made to fail in verbs by themselves, where a tensor does not go: access,
// mappings and shared chunks are as before or as they were wanted.
#include "fault_devices.hpp"

#include <vtensor/backends/os/handle.hpp>

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

#include <unistd.h>

namespace vtensor::testing {
namespace {

/// Access of each of five mappings for both devices, by the machine's tables: "rw r- --".
template <class Machine>
std::string access_of(Machine& machine, const address start, bytes chunk) {
    std::string text;
    const auto driver = machine.driver();
    for (std::size_t index = 0; index < 5; ++index) {
        for (const int device : {0, 1}) {
            unsigned long long flags = 9;
            const auto where = (start + chunk * index).value();
            if constexpr (std::is_same_v<Machine, simulated_cuda>) {
                const cuda::abi::location who{cuda::abi::location_type::device, device};
                REQUIRE(driver.mem_get_access(&flags, &who, where) == 0);
            } else {
                const hip::abi::location who{hip::abi::location_type::device, device};
                REQUIRE(driver.mem_get_access(&flags, &who, reinterpret_cast<void*>(where)) == 0);
            }
            text += flags == 3 ? 'w' : flags == 1 ? 'r' : '-';
        }
        text += ' ';
    }
    return text;
}

using exact_devices = std::tuple<cuda_device, hip_device>; // the third knows one access for all neighbours

TEMPLATE_LIST_TEST_CASE("setting access with a failing driver puts every mapping's access back, peers' too",
                        "[device]", exact_devices) {
    conformance::clean_machine<typename TestType::machine_type> holder{TestType::machine()};
    auto& machine = holder.machine;
    typename TestType::backend_type memory{TestType::backend(machine)};
    chunks_at run{memory, 5};
    run.map();
    const auto open = [&](std::size_t index, access_mode allowed) {
        REQUIRE(ended(memory.set_access(run.at(index), run.size, allowed)) == "ok");
    };
    open(0, access_mode::read_write);
    open(1, access_mode::read);
    open(3, access_mode::read_write);
    REQUIRE(ended(memory.set_peer_access(run.at(3), run.size, access_mode::read, 1)) == "ok");
    const std::string before = access_of(machine, run.start, run.size);
    CHECK(before == "ww rr -- wr -- ");

    for (const auto length : {fault_length::one, fault_length::with_undo}) {
        simulated::driver_faults faults{machine, simulated::code::out_of_memory};
        const auto unchanged = [&](std::size_t) { CHECK(access_of(machine, run.start, run.size) == before); };
        for (const access_mode wanted : {access_mode::none, access_mode::read, access_mode::read_write}) {
            const auto again = [&] { // as it was
                REQUIRE(ended(memory.set_access(run.start, run.all(), access_mode::none)) == "ok");
                open(0, access_mode::read_write);
                open(1, access_mode::read);
                open(3, access_mode::read_write);
                REQUIRE(ended(memory.set_peer_access(run.at(3), run.size, access_mode::read, 1)) == "ok");
                CHECK(access_of(machine, run.start, run.size) == before);
            };
            CHECK(for_each_failing_call(
                      faults, [&] { return memory.set_access(run.start, run.all(), wanted).ok(); }, unchanged,
                      again, errc::out_of_memory, length) >= 1);
            again();
            CHECK(for_each_failing_call(
                      faults, [&] { return memory.set_peer_access(run.at(1), 3 * run.size, wanted, 1).ok(); },
                      unchanged, again, errc::out_of_memory, length) >= 1);
            again();
        }
    }
    run.take_down();
}

TEMPLATE_LIST_TEST_CASE("unmapping with a failing driver leaves every mapping, its access and its content",
                        "[device]", exact_devices) {
    conformance::clean_machine<typename TestType::machine_type> holder{TestType::machine()};
    auto& machine = holder.machine;
    for (const auto length : {fault_length::one, fault_length::with_undo}) {
        simulated::driver_faults faults{machine, simulated::code::unknown};
        std::size_t refused = 0;
        std::size_t failures = 1;
        for (std::size_t k = 1; failures != 0; ++k) {
            typename TestType::backend_type memory{TestType::backend(machine)};
            chunks_at run{memory, 5};
            run.map_and_open();
            for (std::size_t index = 0; index < 5; ++index)
                *run.at(index).template to_pointer<std::size_t>() = index;
            REQUIRE(ended(memory.set_access(run.at(2), run.size, access_mode::read)) == "ok");
            for (const device_chunk chunk : run.chunks) // the mappings alone keep the memory now
                REQUIRE(ended(memory.destroy(chunk)) == "ok");
            const std::string before = access_of(machine, run.start, run.size);

            faults.fail_calls(k, static_cast<std::size_t>(length), 0);
            const status outcome = memory.unmap(run.start, 4 * run.size);
            failures = faults.disarm();
            INFO("call " << k);
            REQUIRE((outcome.ok() || failures != 0));
            if (!outcome) {
                ++refused;
                CHECK(access_of(machine, run.start, run.size) == before);
                for (std::size_t index = 0; index < 5; ++index)
                    CHECK(*run.at(index).template to_pointer<std::size_t>() == index);
                CHECK(ended(memory.unmap(run.start, 4 * run.size)) == "ok");
            }
            CHECK(mapped_bytes(machine, run.start, run.all()) == run.size);
            CHECK(ended(memory.unmap(run.at(4), run.size)) == "ok");
            CHECK(memory.physical_bytes() == bytes{0});
            CHECK(memory.orphaned_chunks() == 0);
            CHECK(ended(memory.release(run.start, 2 * run.all())) == "ok");
        }
        CHECK(refused >= (std::is_same_v<TestType, cuda_device> ? 1u : 4u)); // one call for all, or for each
    }
}

TEMPLATE_LIST_TEST_CASE("exporting and importing with a failing driver leave no handle and no descriptor",
                        "[device]", exact_devices) {
    conformance::clean_machine<typename TestType::machine_type> holder{TestType::machine()};
    auto& machine = holder.machine;
    typename TestType::backend_type memory{TestType::backend(machine)};
    REQUIRE(memory.can_export());
    chunks_at run{memory, 1};
    const auto before = machine.leaks();
    for (const auto length : {fault_length::one, fault_length::with_undo}) {
        simulated::driver_faults faults{machine, simulated::code::unknown};
        const auto unchanged = [&] { CHECK(to_string(machine.leaks()) == to_string(before)); };
        CHECK(for_each_failing_call(
                  faults, [&] { return memory.export_chunk(run.chunks[0]).ok(); },
                  [&](std::size_t) { unchanged(); }, unchanged, errc::native_failure, length) >= 1);
        os_handle kept = *memory.export_chunk(run.chunks[0]);
        CHECK(for_each_failing_call(
                  faults,
                  [&] {
                      const auto chunk =
                          memory.import_chunk(os_handle{file_descriptor{::dup(kept.descriptor())}}, granule);
                      bool gone = !chunk.ok();
                      for (int tries = 0; tries < 4 && !gone; ++tries)
                          gone = memory.destroy(*chunk).ok();
                      CHECK(gone);
                      return chunk.ok();
                  },
                  [&](std::size_t) { unchanged(); }, unchanged, errc::native_failure, length) >= 6);
        unchanged();
    }
    run.take_down(false);
}

TEST_CASE("memory that the driver does not take back is kept, counted, and offered again", "[device]") {
    conformance::clean_machine<simulated_cuda> holder{machine_options{}};
    auto& machine = holder.machine;
    cuda_backend memory{{.driver = machine.driver()}};
    chunks_at run{memory, 2};
    run.map_and_open();

    // Not mapped: the caller keeps it. Mapped: it is the backend's to give back.
    machine.fail_entry(entry::mem_release, simulated::code::unknown, 1, 1000);
    const auto loose = memory.create(granule);
    CHECK(ended(memory.destroy(*loose)) == ended(verb::destroy, errc::native_failure));
    CHECK(ended(memory.destroy(run.chunks[0])) == "ok");
    CHECK(ended(memory.unmap(run.at(0), run.size)) == "ok");
    CHECK(memory.orphaned_chunks() == 1);
    CHECK(memory.physical_bytes() == 3 * granule);
    CHECK(machine.physical_bytes() == (3 * granule).count());
    machine.disarm();

    CHECK(ended(memory.destroy(*loose)) == "ok"); // and the orphan with it
    CHECK(memory.orphaned_chunks() == 0);
    CHECK(memory.physical_bytes() == granule);
    CHECK(ended(memory.unmap(run.at(1), run.size)) == "ok");
    CHECK(ended(memory.destroy(run.chunks[1])) == "ok");
    CHECK(ended(memory.release(run.start, 2 * run.all())) == "ok");
}

} // namespace
} // namespace vtensor::testing
