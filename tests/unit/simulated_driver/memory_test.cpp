// SPDX-License-Identifier: Apache-2.0
#include "scene.hpp"

using namespace vtensor;
using namespace vtensor::testing;

TEMPLATE_TEST_CASE("memory is created in multiples of the granularity", "[simulated]", cuda_names,
                   hip_names) {
    machine_options options;
    options.recommended_granularity = 2 * page;
    scene<TestType> s{options};
    const auto with = s.properties();
    std::size_t unit = 0;
    REQUIRE(s.call.mem_get_allocation_granularity(&unit, &with, 0) == code::success);
    CHECK(unit == page);
    REQUIRE(s.call.mem_get_allocation_granularity(&unit, &with, 1) == code::success);
    CHECK(unit == 2 * page);
    CHECK(s.call.mem_get_allocation_granularity(&unit, &with, 2) == code::invalid_value);
    CHECK(s.call.mem_get_allocation_granularity(nullptr, &with, 0) == code::invalid_value);
    CHECK(s.call.mem_get_allocation_granularity(&unit, nullptr, 0) == code::invalid_value);

    typename scene<TestType>::handle made{};
    for (const std::size_t size : {std::size_t{0}, std::size_t{4096}, mib, page + mib, page + 1})
        CHECK(s.call.mem_create(&made, size, &with, 0) == code::invalid_value);
    CHECK(s.call.mem_create(&made, page, &with, 1) == code::invalid_value);
    CHECK(s.call.mem_create(&made, page, nullptr, 0) == code::invalid_value);
    CHECK(s.call.mem_create(nullptr, page, &with, 0) == code::invalid_value);
    CHECK(s.empty());
    CHECK(s.call.mem_create(&made, 32 * page, &with, 0) == code::success);
}

TEMPLATE_TEST_CASE("the properties of memory are checked", "[simulated]", cuda_names, hip_names) {
    scene<TestType> s;
    typename scene<TestType>::handle made{};
    const auto refused = [&](auto change) {
        auto with = s.properties();
        change(with);
        return s.call.mem_create(&made, page, &with, 0);
    };
    CHECK(refused([](auto& with) { with.type = 0; }) == code::invalid_value);
    CHECK(refused([](auto& with) { with.location.type = 0; }) == code::invalid_value);
    CHECK(refused([](auto& with) { with.location.id = 1; }) == code::invalid_device);
    CHECK(refused([](auto& with) { with.location.id = -1; }) == code::invalid_device);
    CHECK(refused([](auto& with) { with.win32_handle_meta_data = &with; }) == code::invalid_value);
    CHECK(refused([](auto& with) { with.flags.compression_type = 7; }) == code::invalid_value);
    CHECK(refused([](auto& with) { with.flags.usage = 1; }) == code::invalid_value);
    CHECK(s.empty());
}

TEST_CASE("CUDA properties that were not set to zero are noticed", "[simulated]") {
    scene<cuda_names> s;
    auto with = s.properties();
    with.flags.reserved[3] = 1;
    unsigned long long made = 0;
    CHECK(s.call.mem_create(&made, page, &with, 0) == code::invalid_value);
}

TEMPLATE_TEST_CASE("memory ends at the capacity of its device", "[simulated]", cuda_names, hip_names) {
    machine_options options;
    options.devices = 2;
    options.capacity = 4 * page;
    scene<TestType> s{options};
    const auto first = s.create(3 * page);
    const auto with = s.properties();
    typename scene<TestType>::handle made{};
    CHECK(s.call.mem_create(&made, 2 * page, &with, 0) == code::out_of_memory);
    const auto other = s.create(4 * page, s.properties(1));
    const auto second = s.create(page);
    CHECK(s.machine.physical_bytes(0) == 4 * page);
    CHECK(s.machine.physical_bytes(1) == 4 * page);
    std::size_t free_bytes = 1;
    std::size_t total = 0;
    CHECK(s.call.mem_get_info(&free_bytes, &total) == code::success);
    CHECK(free_bytes == 0);
    CHECK(total == 4 * page);
    for (const auto memory : {first, second, other})
        CHECK(s.call.mem_release(memory) == code::success);
    CHECK(s.call.mem_get_info(&free_bytes, &total) == code::success);
    CHECK(free_bytes == 4 * page);
    CHECK(s.empty());
}

TEMPLATE_TEST_CASE("a handle that was released, or never made, is refused", "[simulated]", cuda_names,
                   hip_names) {
    scene<TestType> s;
    scene<TestType> other;
    using handle = typename scene<TestType>::handle;
    const std::uintptr_t where = s.reserve(page);
    const handle memory = s.create();
    CHECK(other.call.mem_release(memory) == code::invalid_value); // another machine's
    REQUIRE(s.call.mem_release(memory) == code::success);
    CHECK(s.call.mem_release(memory) == code::invalid_value);
    CHECK(s.call.mem_map(s.at(where), page, 0, memory, 0) == code::invalid_value);
    CHECK(s.call.mem_release(handle{}) == code::invalid_value);
    CHECK(s.call.mem_map(s.at(where), page, 0, handle{}, 0) == code::invalid_value);
    auto with = s.properties();
    CHECK(s.call.mem_get_allocation_properties_from_handle(&with, memory) == code::invalid_value);
    int file = -1;
    CHECK(s.call.mem_export_to_shareable_handle(&file, memory, 1, 0) == code::invalid_value);
    CHECK(s.create() != memory); // and its number is not used again
}

TEMPLATE_TEST_CASE("memory lives until its last mapping and reference go", "[simulated]", cuda_names,
                   hip_names) {
    scene<TestType> s;
    const std::uintptr_t where = s.reserve(2 * page);
    const auto memory = s.create();
    s.map(where, memory);
    s.map(where + page, memory); // at two addresses
    REQUIRE(s.grant(where, 2 * page) == code::success);
    REQUIRE(s.call.mem_release(memory) == code::success); // while mapped
    *s.bytes_at(where) = std::byte{42};
    CHECK(*s.bytes_at(where + page) == std::byte{42});
    REQUIRE(s.unmap(where, page) == code::success);
    CHECK(s.machine.physical_bytes() == page);
    CHECK(*s.bytes_at(where + page) == std::byte{42});

    // A reference by address revives the handle under its own number, and needs its own release.
    typename scene<TestType>::handle again{};
    REQUIRE(s.call.mem_retain_allocation_handle(&again, s.bytes_at(where + page + 5)) == code::success);
    CHECK(again == memory);
    REQUIRE(s.unmap(where + page, page) == code::success);
    CHECK(s.machine.physical_bytes() == page);
    s.map(where, memory);
    REQUIRE(s.grant(where, page) == code::success);
    CHECK(*s.bytes_at(where) == std::byte{42});
    REQUIRE(s.call.mem_release(memory) == code::success);
    CHECK(s.call.mem_release(memory) == code::invalid_value);
    REQUIRE(s.unmap(where, page) == code::success);
    CHECK(s.machine.physical_bytes() == 0);
    CHECK(s.call.mem_retain_allocation_handle(&again, s.bytes_at(where)) == code::invalid_value);
}

TEMPLATE_TEST_CASE("every reference needs its release", "[simulated]", cuda_names, hip_names) {
    scene<TestType> s;
    const std::uintptr_t where = s.reserve(page);
    const auto memory = s.create();
    s.map(where, memory);
    typename scene<TestType>::handle again{};
    REQUIRE(s.call.mem_retain_allocation_handle(&again, s.bytes_at(where)) == code::success);
    CHECK(s.machine.leaks().handle_references == 2);
    CHECK(s.call.mem_release(memory) == code::success);
    CHECK(s.machine.leaks().handles == 1);
    CHECK(s.call.mem_release(memory) == code::success);
    CHECK(s.call.mem_release(memory) == code::invalid_value);
}

TEMPLATE_TEST_CASE("fresh memory is zero, also where other memory was before", "[simulated]", cuda_names,
                   hip_names) {
    machine_options options;
    options.capacity = page;
    scene<TestType> s{options};
    const std::uintptr_t where = s.reserve(page);
    for (int round = 0; round < 3; ++round) {
        s.map_fresh(where);
        REQUIRE(s.grant(where, page) == code::success);
        CHECK(*s.bytes_at(where + 4711) == std::byte{0});
        *s.bytes_at(where + 4711) = std::byte{1};
        REQUIRE(s.unmap(where, page) == code::success);
    }
}

TEMPLATE_TEST_CASE("the properties of a handle can be asked for", "[simulated]", cuda_names, hip_names) {
    machine_options options;
    options.devices = 2;
    options.sharing.rdma_supported = true;
    scene<TestType> s{options};
    const auto memory = s.create(page, s.properties(1, 1, true));
    auto told = s.properties();
    REQUIRE(s.call.mem_get_allocation_properties_from_handle(&told, memory) == code::success);
    CHECK(told.type == 1);
    CHECK(told.location.type == 1);
    CHECK(told.location.id == 1);
    CHECK(told.flags.gpu_direct_rdma_capable == 1);
}

TEMPLATE_TEST_CASE("plain memory is accessible at once, counts, and is closed to the other verbs",
                   "[simulated]", cuda_names, hip_names) {
    machine_options options;
    options.capacity = 4 * page;
    scene<TestType> s{options};
    typename scene<TestType>::pointer made{};
    REQUIRE(s.call.mem_alloc(&made, 3 * page + 1) == code::success);
    const std::uintptr_t where = simulated::number_of(made);
    *s.bytes_at(where + 3 * page) = std::byte{7};
    CHECK(s.machine.physical_bytes() == 3 * page + 4096);
    typename scene<TestType>::pointer more{};
    CHECK(s.call.mem_alloc(&more, page) == code::out_of_memory);
    CHECK(s.call.mem_alloc(&more, 0) == code::invalid_value);
    CHECK(s.unmap(where, 3 * page + 4096) == code::invalid_value);
    CHECK(s.grant(where, 3 * page + 4096) == code::invalid_value);
    CHECK(s.free(where, 3 * page + 4096) == code::invalid_value);
    CHECK(s.call.mem_free(s.at(where + page)) == code::invalid_value);
    CHECK(s.machine.leaks().plain_allocations == 1);
    CHECK(s.call.mem_free(made) == code::success);
    CHECK(s.call.mem_free(made) == code::invalid_value);
    CHECK(s.empty());
}
