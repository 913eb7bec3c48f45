// SPDX-License-Identifier: Apache-2.0
#include "scene.hpp"

#include <thread>

using namespace vtensor;
using namespace vtensor::testing;
using vtensor::testing::simulated::context_rule;

namespace {

struct bare_cuda {
    explicit bare_cuda(machine_options options = {}) : machine{std::move(options)}, call{machine.driver()} {
        REQUIRE(call.init(0) == code::success);
    }
    simulated_cuda machine;
    const cuda_driver call;
};

} // namespace

TEST_CASE("what needs a context says so where none is current", "[simulated]") {
    bare_cuda s;
    cuda_driver::stream stream{};
    cuda_driver::event event{};
    cuda_driver::pointer where = 0;
    std::size_t bytes = 0;
    int device = 0;
    CHECK(s.call.stream_create(&stream, 0) == code::invalid_context);
    CHECK(s.call.event_create(&event, 0) == code::invalid_context);
    CHECK(s.call.mem_alloc(&where, page) == code::invalid_context);
    CHECK(s.call.mem_get_info(&bytes, &bytes) == code::invalid_context);
    CHECK(s.call.memset_d8_async(1, 0, 1, nullptr) == code::invalid_context);
    CHECK(s.call.stream_synchronize(nullptr) == code::invalid_context);
    CHECK(s.call.ctx_get_device(&device) == code::invalid_context);
    CHECK(s.call.ctx_pop_current(nullptr) == code::invalid_context);
    // As documented, the verbs of virtual memory do not.
    CHECK(s.call.mem_address_reserve(&where, page, 0, 0, 0) == code::success);
    CHECK(s.call.mem_address_free(where, page) == code::success);
}

TEST_CASE("a stricter driver wants a context everywhere", "[simulated]") {
    machine_options options;
    options.contexts = context_rule::everywhere;
    bare_cuda s{options};
    cuda_driver::pointer where = 0;
    const auto with = cuda_names::properties(0, 0, false);
    cuda_driver::handle memory = 0;
    std::size_t unit = 0;
    CHECK(s.call.mem_get_allocation_granularity(&unit, &with, 0) == code::invalid_context);
    CHECK(s.call.mem_address_reserve(&where, page, 0, 0, 0) == code::invalid_context);
    CHECK(s.call.mem_address_free(page, page) == code::invalid_context);
    CHECK(s.call.mem_create(&memory, page, &with, 0) == code::invalid_context);
    CHECK(s.call.mem_release(1) == code::invalid_context);
    CHECK(s.call.mem_map(page, page, 0, 1, 0) == code::invalid_context);
    CHECK(s.call.mem_unmap(page, page) == code::invalid_context);
    const vtensor::cuda::abi::access_desc wish{{1, 0}, 3};
    CHECK(s.call.mem_set_access(page, page, &wish, 1) == code::invalid_context);
    cuda_names::enter(s.call);
    CHECK(s.call.mem_address_reserve(&where, page, 0, 0, 0) == code::success);

    // What is current in one thread is not in another.
    int elsewhere = code::success;
    std::thread{[&] { elsewhere = s.call.mem_address_free(where, page); }}.join();
    CHECK(elsewhere == code::invalid_context);
    CHECK(s.call.mem_address_free(where, page) == code::success);
    CHECK(s.machine.log().back().context_device == 0);
}

TEST_CASE("contexts stack in each thread", "[simulated]") {
    machine_options options;
    options.devices = 2;
    bare_cuda s{options};
    cuda_driver::context first{};
    cuda_driver::context current{};
    REQUIRE(s.call.device_primary_ctx_retain(&first, 0) == code::success);
    const cuda_driver::context own = s.machine.make_engine_context(1);
    CHECK(s.call.ctx_get_current(&current) == code::success);
    CHECK(current == nullptr);
    REQUIRE(s.call.ctx_push_current(first) == code::success);
    REQUIRE(s.call.ctx_push_current(own) == code::success);
    CHECK(s.machine.leaks().pushed_contexts == 2);
    int device = -1;
    CHECK(s.call.ctx_get_device(&device) == code::success);
    CHECK(device == 1);
    CHECK(s.call.ctx_pop_current(&current) == code::success);
    CHECK(current == own);
    CHECK(s.call.ctx_get_current(&current) == code::success);
    CHECK(current == first);
    CHECK(s.call.ctx_pop_current(nullptr) == code::success);
    CHECK(s.call.ctx_pop_current(nullptr) == code::invalid_context);
    CHECK(s.machine.leaks().pushed_contexts == 0);
}

TEST_CASE("a primary context lives as long as it is retained", "[simulated]") {
    bare_cuda s;
    cuda_driver::context primary{};
    CHECK(s.call.device_primary_ctx_release(0) == code::invalid_context);
    REQUIRE(s.call.device_primary_ctx_retain(&primary, 0) == code::success);
    cuda_driver::context again{};
    REQUIRE(s.call.device_primary_ctx_retain(&again, 0) == code::success);
    CHECK(again == primary);
    CHECK(s.machine.leaks().contexts == 2);
    CHECK(s.call.device_primary_ctx_release(0) == code::success);
    CHECK(s.call.ctx_push_current(primary) == code::success);
    CHECK(s.call.device_primary_ctx_release(0) == code::success);
    CHECK(s.machine.leaks().contexts == 0);
    // Gone, although it is still on the stack.
    cuda_driver::event event{};
    CHECK(s.call.event_create(&event, 0) == code::invalid_context);
    CHECK(s.call.ctx_push_current(primary) == code::invalid_context);
    CHECK(s.call.device_primary_ctx_retain(&primary, 1) == code::invalid_device);
}

TEST_CASE("an engine's own context can be destroyed under its users", "[simulated]") {
    bare_cuda s;
    const auto own = s.machine.make_engine_context();
    REQUIRE(s.call.ctx_push_current(own) == code::success);
    cuda_driver::event event{};
    CHECK(s.call.event_create(&event, 0) == code::success);
    s.machine.destroy_context(simulated::number_of(own));
    CHECK(s.call.event_create(&event, 0) == code::invalid_context);
}

TEST_CASE("HIP's current device belongs to the thread", "[simulated]") {
    machine_options options;
    options.devices = 2;
    scene<hip_names> s{options};
    int device = -1;
    CHECK(s.call.get_device(&device) == code::success);
    CHECK(device == 0);
    CHECK(s.call.set_device(2) == code::invalid_device);
    CHECK(s.call.set_device(1) == code::success);
    int elsewhere = -1;
    std::thread{[&] { s.call.get_device(&elsewhere); }}.join();
    CHECK(elsewhere == 0);
    hip_driver::pointer where{};
    REQUIRE(s.call.mem_alloc(&where, page) == code::success);
    CHECK(s.machine.physical_bytes(1) == page);
    CHECK(s.call.mem_free(where) == code::success);
}
