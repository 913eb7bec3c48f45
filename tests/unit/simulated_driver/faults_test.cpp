// SPDX-License-Identifier: Apache-2.0
//
// What the simulation offers to tests of backends: the log, faults, the report of leaks, latencies.
#include "scene.hpp"

#include <support/fault_loop.hpp>

#include <chrono>

using namespace vtensor;
using namespace vtensor::testing;
using vtensor::testing::simulated::entry;

TEMPLATE_TEST_CASE("every call is counted and logged with its arguments", "[simulated]", cuda_names,
                   hip_names) {
    scene<TestType> s;
    const std::uintptr_t where = s.reserve(page);
    s.map_fresh(where);
    CHECK(s.grant(where, page) == code::success);
    CHECK(s.grant(where + page, page) == code::invalid_value);
    CHECK(s.machine.calls(entry::mem_set_access) == 2);
    CHECK(s.machine.calls(entry::mem_unmap) == 0);
    const auto log = s.machine.log();
    REQUIRE(log.size() == 6);
    CHECK(s.machine.total_calls() == 6);
    CHECK(log[0].what == entry::mem_address_reserve);
    CHECK(log[1].what == entry::mem_create);
    CHECK(log[2].what == entry::mem_map);
    CHECK(log[2].where == where);
    CHECK(log[2].size == page);
    CHECK(log[2].object != 0);
    CHECK(log[3].what == entry::mem_release);
    CHECK(log[3].object == log[2].object);
    CHECK(log[4].count == 1);
    CHECK(log[4].result == code::success);
    CHECK(log[5].result == code::invalid_value);
    CHECK(log[5].thread == std::this_thread::get_id());
    CHECK(name(log[5].what) == "mem_set_access");
    s.machine.clear_log();
    CHECK(s.machine.total_calls() == 0);
}

TEMPLATE_TEST_CASE("the k-th call fails, without effect, with the code asked for", "[simulated]", cuda_names,
                   hip_names) {
    scene<TestType> s;
    const auto with = s.properties();
    typename scene<TestType>::handle made{};
    s.machine.fail_calls(2, 2, 999);
    CHECK(s.call.mem_create(&made, page, &with, 0) == code::success);
    CHECK(s.call.mem_release(made) == 999);
    CHECK(s.call.mem_release(made) == 999);
    CHECK(s.machine.leaks().handles == 1);
    CHECK(s.call.mem_release(made) == code::success);
    CHECK(s.machine.failures() == 2);
    CHECK(s.machine.disarm() == 2);

    s.machine.fail_entry(entry::mem_create, code::out_of_memory, 2);
    CHECK(s.call.mem_release(made) == code::invalid_value); // not counted
    CHECK(s.call.mem_create(&made, page, &with, 0) == code::success);
    CHECK(s.call.mem_create(&made, page, &with, 0) == code::out_of_memory);
    CHECK(s.call.mem_create(&made, page, &with, 0) == code::success);

    s.machine.fail_calls(1, 1, 700, [](const simulated::call& call) { return call.size == 3 * page; });
    CHECK(s.call.mem_create(&made, page, &with, 0) == code::success);
    CHECK(s.call.mem_create(&made, 3 * page, &with, 0) == 700);
}

TEST_CASE("the fault loop runs over the driver's calls", "[simulated]") {
    scene<cuda_names> s;
    simulated::driver_faults faults{s.machine, code::out_of_memory};
    // A careful user: three calls, undone where one fails.
    unsigned long long where = 0;
    unsigned long long memory = 0;
    const auto with = s.properties();
    const auto grow = [&] {
        if (s.call.mem_address_reserve(&where, page, 0, 0, 0) != 0)
            return false;
        if (s.call.mem_create(&memory, page, &with, 0) == 0) {
            if (s.call.mem_map(where, page, 0, memory, 0) == 0)
                return true;
            s.call.mem_release(memory);
        }
        s.call.mem_address_free(where, page);
        return false;
    };
    CHECK(for_each_failing_call(faults, grow, [&](std::size_t) { CHECK(s.empty()); }) == 3);
    CHECK(s.machine.mapping_count() == 1);
}

TEMPLATE_TEST_CASE("what is left is reported", "[simulated]", cuda_names, hip_names) {
    typename TestType::machine fresh;
    CHECK(fresh.leaks().none());
    CHECK(to_string(fresh.leaks()) == "nothing");

    scene<TestType> s;
    const auto stream = s.make_stream();
    const auto event = s.make_event();
    const std::uintptr_t where = s.accessible(3 * page);
    typename scene<TestType>::handle memory{};
    REQUIRE(s.call.mem_retain_allocation_handle(&memory, s.bytes_at(where)) == code::success);
    s.machine.stall(stream);
    REQUIRE(s.fill(where, 1, page, stream) == code::success);
    const auto alive = s.machine.leaks();
    CHECK_FALSE(alive.none());
    CHECK(alive.reservations == 1);
    CHECK(alive.reserved_bytes == 3 * page);
    CHECK(alive.mappings == 1);
    CHECK(alive.handles == 1);
    CHECK(alive.handle_references == 1);
    CHECK(alive.physical_bytes == 3 * page);
    CHECK(alive.streams == 1);
    CHECK(alive.events == 1);
    CHECK(alive.queued_operations == 1);
    CHECK(to_string(alive).find("1 mappings") != std::string::npos);
    s.machine.resume(stream);
    CHECK(s.call.stream_destroy(stream) == code::success);
    CHECK(s.call.event_destroy(event) == code::success);
    CHECK(s.call.mem_release(memory) == code::success);
    CHECK(s.unmap(where, 3 * page) == code::success);
    CHECK(s.free(where, 3 * page) == code::success);
    CHECK(s.empty());
    CHECK(s.machine.leaks().streams == 0);
    CHECK(s.machine.leaks().events == 0);
}

TEMPLATE_TEST_CASE("latencies are off, and take the time of their table when on", "[simulated]", cuda_names,
                   hip_names) {
    CHECK(machine_options{}.latency.off());
    machine_options options;
    options.latency = simulated::published_a100;
    scene<TestType> s{options};
    CHECK_FALSE(s.machine.options().latency.off());
    const auto start = std::chrono::steady_clock::now();
    constexpr int creations = 20;
    for (int index = 0; index < creations; ++index)
        static_cast<void>(s.create());
    const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
    CHECK(spent.count() >= creations * simulated::published_a100.create);
    CHECK(simulated::size_factor(2 * mib) == 1.0);
    CHECK(simulated::size_factor(64 * mib) == Catch::Approx(10.0).epsilon(0.01));
}
