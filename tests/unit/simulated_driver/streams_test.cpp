// SPDX-License-Identifier: Apache-2.0
//
// Streams and events of the simulation, with work carried out at once and by a thread of the machine.
#include "scene.hpp"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;
using vtensor::testing::simulated::entry;
using vtensor::testing::simulated::execution;
using vtensor::testing::simulated::violation_kind;

namespace {

machine_options with(execution how) {
    machine_options options;
    options.streams = how;
    options.devices = 2;
    return options;
}

} // namespace

TEMPLATE_TEST_CASE("copies and fills are carried out in order", "[simulated]", cuda_names, hip_names) {
    const execution how = GENERATE(execution::at_once, execution::worker);
    scene<TestType> s{with(how)};
    const std::uintptr_t from = s.accessible();
    const std::uintptr_t to = s.accessible();
    const auto stream = s.make_stream();
    REQUIRE(s.fill(from, 5, page, stream) == code::success);
    REQUIRE(s.copy(to, from, page, stream) == code::success);
    REQUIRE(s.fill(from, 6, page, stream) == code::success);
    REQUIRE(s.call.stream_synchronize(stream) == code::success);
    CHECK(*s.bytes_at(to + page - 1) == std::byte{5});
    CHECK(*s.bytes_at(from) == std::byte{6});
    CHECK(s.call.stream_query(stream) == code::success);
    CHECK(s.machine.violations().empty());
}

TEMPLATE_TEST_CASE("a stalled stream holds its work back until it is resumed", "[simulated]", cuda_names,
                   hip_names) {
    const execution how = GENERATE(execution::at_once, execution::worker);
    scene<TestType> s{with(how)};
    const std::uintptr_t where = s.accessible();
    const auto stream = s.make_stream();
    const auto event = s.make_event();
    CHECK(s.call.event_query(event) == code::success); // never recorded
    s.machine.stall(stream);
    REQUIRE(s.fill(where, 1, page, stream) == code::success);
    REQUIRE(s.call.event_record(event, stream) == code::success);
    CHECK(s.call.event_query(event) == code::not_ready);
    CHECK(s.call.stream_query(stream) == code::not_ready);
    CHECK(*s.bytes_at(where) == std::byte{0});
    CHECK(s.machine.leaks().queued_operations == 2);
    s.machine.resume(stream);
    REQUIRE(s.call.event_synchronize(event) == code::success);
    CHECK(s.call.event_query(event) == code::success);
    CHECK(*s.bytes_at(where) == std::byte{1});
}

TEMPLATE_TEST_CASE("a stalled stream can be stepped", "[simulated]", cuda_names, hip_names) {
    scene<TestType> s;
    const std::uintptr_t where = s.accessible();
    const auto stream = s.make_stream();
    s.machine.stall(stream);
    for (unsigned char value = 1; value <= 3; ++value)
        REQUIRE(s.fill(where, value, 1, stream) == code::success);
    CHECK(s.machine.step(stream) == 1);
    CHECK(*s.bytes_at(where) == std::byte{1});
    CHECK(s.machine.step(stream, 5) == 2);
    CHECK(*s.bytes_at(where) == std::byte{3});
    CHECK(s.call.stream_query(stream) == code::success);
}

TEMPLATE_TEST_CASE("a stream waits for an event of another", "[simulated]", cuda_names, hip_names) {
    const execution how = GENERATE(execution::at_once, execution::worker);
    scene<TestType> s{with(how)};
    const std::uintptr_t where = s.accessible();
    const auto first = s.make_stream();
    const auto second = s.make_stream();
    const auto event = s.make_event();
    s.machine.stall(first);
    REQUIRE(s.fill(where, 1, 1, first) == code::success);
    REQUIRE(s.call.event_record(event, first) == code::success);
    REQUIRE(s.call.stream_wait_event(second, event, 0) == code::success);
    REQUIRE(s.copy(where + 1, where, 1, second) == code::success);
    const auto behind = s.make_event();
    REQUIRE(s.call.event_record(behind, second) == code::success);
    CHECK(s.call.event_query(behind) == code::not_ready);
    // What is recorded later is not waited for.
    REQUIRE(s.fill(where, 2, 1, first) == code::success);
    REQUIRE(s.call.event_record(event, first) == code::success);
    CHECK(s.machine.step(first, 2) == 2);
    REQUIRE(s.call.event_synchronize(behind) == code::success);
    CHECK(*s.bytes_at(where + 1) == std::byte{1});
    CHECK(s.call.event_query(event) == code::not_ready);
    s.machine.resume(first);
    CHECK(s.call.event_synchronize(event) == code::success);
}

TEMPLATE_TEST_CASE("the default stream and the blocking ones wait for each other", "[simulated]", cuda_names,
                   hip_names) {
    scene<TestType> s;
    const std::uintptr_t where = s.accessible();
    const auto blocking = s.make_stream(0);
    const auto apart = s.make_stream(1);
    s.machine.stall(blocking);
    REQUIRE(s.fill(where, 1, 1, blocking) == code::success);
    REQUIRE(s.copy(where + 1, where, 1, nullptr) == code::success);
    REQUIRE(s.fill(where + 2, 9, 1, apart) == code::success);
    CHECK(*s.bytes_at(where + 2) == std::byte{9});
    CHECK(s.call.stream_query(nullptr) == code::not_ready);
    s.machine.resume(blocking);
    CHECK(s.call.stream_query(nullptr) == code::success);
    CHECK(*s.bytes_at(where + 1) == std::byte{1});
}

TEMPLATE_TEST_CASE("handles of streams and events that are gone are refused", "[simulated]", cuda_names,
                   hip_names) {
    scene<TestType> s;
    scene<TestType> other;
    const std::uintptr_t where = s.accessible();
    const auto stream = s.make_stream();
    const auto event = s.make_event();
    CHECK(other.call.stream_query(stream) == code::invalid_handle);
    CHECK(other.call.event_query(event) == code::invalid_handle);
    REQUIRE(s.call.stream_destroy(stream) == code::success);
    CHECK(s.call.stream_destroy(stream) == code::invalid_handle);
    CHECK(s.call.stream_synchronize(stream) == code::invalid_handle);
    CHECK(s.call.stream_query(stream) == code::invalid_handle);
    CHECK(s.call.event_record(event, stream) == code::invalid_handle);
    CHECK(s.call.stream_wait_event(stream, event, 0) == code::invalid_handle);
    CHECK(s.fill(where, 0, 1, stream) == code::invalid_handle);
    CHECK(s.copy(where, where, 1, stream) == code::invalid_handle);
    REQUIRE(s.call.event_destroy(event) == code::success);
    CHECK(s.call.event_destroy(event) == code::invalid_handle);
    CHECK(s.call.event_query(event) == code::invalid_handle);
    CHECK(s.call.event_synchronize(event) == code::invalid_handle);
    CHECK(s.call.event_record(event, s.make_stream()) == code::invalid_handle);
}

TEMPLATE_TEST_CASE("a stream that is destroyed finishes its work", "[simulated]", cuda_names, hip_names) {
    scene<TestType> s;
    const std::uintptr_t where = s.accessible();
    const auto stream = s.make_stream();
    const auto event = s.make_event();
    s.machine.stall(stream);
    REQUIRE(s.fill(where, 1, 1, stream) == code::success);
    REQUIRE(s.call.event_record(event, stream) == code::success);
    REQUIRE(s.call.stream_destroy(stream) == code::success);
    CHECK(s.machine.leaks().streams == 0);
    CHECK(s.call.event_query(event) == code::not_ready);
    s.machine.resume_all();
    CHECK(s.call.event_query(event) == code::success);
    CHECK(*s.bytes_at(where) == std::byte{1});
    CHECK(s.machine.leaks().queued_operations == 0);
}

TEMPLATE_TEST_CASE("flags that do not exist are refused", "[simulated]", cuda_names, hip_names) {
    scene<TestType> s;
    typename scene<TestType>::stream stream{};
    CHECK(TestType::create_stream(s.call, &stream, 4) == code::invalid_value);
    CHECK(TestType::create_stream(s.call, nullptr, 0) == code::invalid_value);
    const auto made = s.make_stream();
    CHECK(s.call.stream_wait_event(made, s.make_event(), 1) == code::invalid_value);
    CHECK(s.fill(0, 0, 1, made) == code::invalid_value);
    CHECK(s.copy(0, 4096, 1, made) == code::invalid_value);
    CHECK(s.copy(4096, 0, 1, made) == code::invalid_value);
    CHECK(s.copy(0, 0, 0, made) == code::success);
}

TEST_CASE("an event belongs to the device of its stream", "[simulated]") {
    scene<hip_names> s{with(execution::at_once)};
    const auto event = s.make_event();
    REQUIRE(s.call.set_device(1) == code::success);
    const auto stream = s.make_stream();
    CHECK(s.call.event_record(event, stream) == code::invalid_handle);
    CHECK(s.call.event_record(s.make_event(), stream) == code::success);
    CHECK(s.call.stream_wait_event(stream, event, 0) == code::success); // waiting crosses devices
}

TEST_CASE("an event belongs to the context of its stream", "[simulated]") {
    scene<cuda_names> s{with(execution::at_once)};
    const auto event = s.make_event();
    REQUIRE(s.call.ctx_push_current(s.machine.make_engine_context()) == code::success);
    CHECK(s.call.event_record(event, s.make_stream()) == code::invalid_handle);
    CHECK(s.call.event_record(s.make_event(), s.make_stream()) == code::success);
}

TEMPLATE_TEST_CASE("unmapping what queued work still touches is reported", "[simulated]", cuda_names,
                   hip_names) {
    scene<TestType> s;
    const std::uintptr_t where = s.accessible();
    const std::uintptr_t other = s.accessible();
    const auto stream = s.make_stream();
    s.machine.stall(stream);
    REQUIRE(s.copy(other, where + 4096, 4096, stream) == code::success);
    REQUIRE(s.unmap(where, page) == code::success); // the driver says nothing
    REQUIRE(s.machine.violation_count(violation_kind::unmapped_in_use) == 1);
    CHECK(s.machine.violations().front().text.find("was unmapped while work of stream") != std::string::npos);

    // The work then touches what is not there, and the device is broken from that moment on.
    s.machine.resume(stream);
    CHECK(s.machine.violation_count(violation_kind::illegal_access) == 1);
    CHECK(s.call.stream_synchronize(stream) == code::illegal_address);
    CHECK(s.unmap(other, page) == code::illegal_address);
    s.machine.forgive();
    CHECK(s.unmap(other, page) == code::success);
}

TEMPLATE_TEST_CASE("unmapping after the event is fine, taking access or memory away before it is not",
                   "[simulated]", cuda_names, hip_names) {
    scene<TestType> s;
    const auto stream = s.make_stream();
    const auto event = s.make_event();
    const std::uintptr_t where = s.accessible();
    REQUIRE(s.fill(where, 1, page, stream) == code::success);
    REQUIRE(s.call.event_record(event, stream) == code::success);
    REQUIRE(s.call.event_query(event) == code::success);
    CHECK(s.unmap(where, page) == code::success);
    CHECK(s.machine.violations().empty());

    const std::uintptr_t second = s.accessible();
    typename scene<TestType>::pointer plain{};
    REQUIRE(s.call.mem_alloc(&plain, page) == code::success);
    s.machine.stall(stream);
    REQUIRE(s.fill(second, 1, page, stream) == code::success);
    REQUIRE(s.fill(simulated::number_of(plain), 1, page, stream) == code::success);
    CHECK(s.grant(second, page) == code::success); // the same access again
    CHECK(s.machine.violations().empty());
    CHECK(s.grant(second, page, 1) == code::success);
    CHECK(s.machine.violation_count(violation_kind::unmapped_in_use) == 1);
    CHECK(s.call.mem_free(plain) == code::success);
    CHECK(s.machine.violation_count(violation_kind::unmapped_in_use) == 2);
}

TEMPLATE_TEST_CASE("work needs the access of its own device", "[simulated]", cuda_names, hip_names) {
    scene<TestType> s{with(execution::at_once)};
    const auto stream = s.make_stream();
    const std::uintptr_t where = s.reserve(2 * page);
    s.map_fresh(where);
    const auto broken_by = [&](int result) {
        CHECK(result == code::success); // it shows later
        const bool broken = s.machine.violation_count(violation_kind::illegal_access) == 1;
        s.machine.forgive();
        return broken;
    };
    CHECK(broken_by(s.fill(where, 1, 1, stream))); // mapped, no access set
    REQUIRE(s.grant(where, page, 3, 1) == code::success);
    CHECK(broken_by(s.fill(where, 1, 1, stream))); // another device's
    REQUIRE(s.grant(where, page, 1, 0) == code::success);
    CHECK(broken_by(s.fill(where, 1, 1, stream))); // reading only
    CHECK_FALSE(broken_by(s.machine.launch(stream, {{where, page}}, {})));
    REQUIRE(s.grant(where, page, 3, 0) == code::success);
    CHECK_FALSE(broken_by(s.fill(where, 1, page, stream)));
    CHECK(broken_by(s.fill(where, 1, page + 1, stream))); // one byte too far
    CHECK(broken_by(s.machine.launch(stream, {{where + page, 1}}, {})));
}

TEST_CASE("work of another device needs that device's access", "[simulated]") {
    scene<hip_names> s{with(execution::at_once)};
    const std::uintptr_t where = s.accessible(); // to device 0
    REQUIRE(s.call.set_device(1) == code::success);
    const auto stream = s.make_stream();
    CHECK(s.fill(where, 1, 1, stream) == code::success);
    CHECK(s.machine.violation_count(violation_kind::illegal_access) == 1);
    s.machine.forgive();
    REQUIRE(s.grant(where, page, 3, 1) == code::success);
    CHECK(s.fill(where, 1, 1, stream) == code::success);
    CHECK(s.machine.violations().empty());
}

TEMPLATE_TEST_CASE("memory of the host can be copied from and to", "[simulated]", cuda_names, hip_names) {
    scene<TestType> s;
    const auto stream = s.make_stream();
    const std::uintptr_t where = s.accessible();
    std::vector<std::byte> host(100, std::byte{3});
    REQUIRE(s.copy(where, reinterpret_cast<std::uintptr_t>(host.data()), host.size(), stream) ==
            code::success);
    CHECK(*s.bytes_at(where + 99) == std::byte{3});
    CHECK(s.machine.violations().empty());
}

TEMPLATE_TEST_CASE("unmapping under a kernel that runs waits for it, and is reported", "[simulated]",
                   cuda_names, hip_names) {
    scene<TestType> s{with(execution::worker)};
    const std::uintptr_t where = s.accessible();
    const auto stream = s.make_stream();
    std::atomic<bool> started = false;
    std::atomic<bool> ended = false;
    REQUIRE(s.machine.launch(stream, {}, {{where, page}}, [&] {
        started = true;
        for (int round = 0; round < 20; ++round) {
            *s.bytes_at(where) = static_cast<std::byte>(round); // would fault where it were unmapped
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        }
        ended = true;
    }) == code::success);
    while (!started.load())
        std::this_thread::yield();
    CHECK(s.unmap(where, page) == code::success);
    CHECK(ended.load());
    CHECK(s.machine.violation_count(violation_kind::unmapped_in_use) == 1);
}

TEMPLATE_TEST_CASE("a wait that nobody ends is ended and reported", "[simulated]", cuda_names, hip_names) {
    machine_options options;
    options.streams = GENERATE(execution::at_once, execution::worker);
    options.longest_wait = std::chrono::milliseconds{20};
    scene<TestType> s{options};
    const std::uintptr_t where = s.accessible();
    const auto stream = s.make_stream();
    s.machine.stall(stream);
    REQUIRE(s.fill(where, 1, 1, stream) == code::success);
    CHECK(s.call.stream_synchronize(stream) == code::unknown);
    CHECK(s.machine.violation_count(violation_kind::endless_wait) == 1);
}

TEMPLATE_TEST_CASE("many threads may call one machine", "[simulated]", cuda_names, hip_names) {
    scene<TestType> s{with(execution::worker)};
    constexpr int threads = 4;
    constexpr std::size_t rounds = 50;
    std::atomic<int> failures = 0;
    std::vector<std::thread> running;
    const auto stream = s.make_stream();
    const auto with_properties = s.properties();
    for (int thread = 0; thread < threads; ++thread)
        running.emplace_back([&] {
            typename scene<TestType>::pointer where{};
            typename scene<TestType>::handle memory{};
            const typename TestType::access_desc wish{{1, 0}, 3};
            const auto need = [&](int result) { failures += result == code::success ? 0 : 1; };
            need(s.call.mem_address_reserve(&where, page, 0, {}, 0));
            for (std::size_t round = 0; round < rounds; ++round) {
                need(s.call.mem_create(&memory, page, &with_properties, 0));
                need(s.call.mem_map(where, page, 0, memory, 0));
                need(s.call.mem_set_access(where, page, &wish, 1));
                need(s.fill(simulated::number_of(where), 1, 64, stream));
                need(s.call.stream_synchronize(stream));
                need(s.call.mem_unmap(where, page));
                need(s.call.mem_release(memory));
            }
            need(s.call.mem_address_free(where, page));
        });
    for (std::thread& one : running)
        one.join();
    CHECK(failures.load() == 0);
    CHECK(s.machine.violations().empty());
    CHECK(s.machine.calls(entry::mem_map) == threads * rounds);
    CHECK(s.empty());
}
