// SPDX-License-Identifier: Apache-2.0
#include "scene.hpp"

#include <support/death.hpp>

using namespace vtensor;
using namespace vtensor::testing;

TEMPLATE_TEST_CASE("addresses are reserved without memory, and touching them faults", "[simulated]",
                   cuda_names, hip_names) {
    scene<TestType> s;
    const std::uintptr_t where = s.reserve(8 * page);
    CHECK(where % page == 0);
    CHECK(reading_faults(s.bytes_at(where)));
    CHECK(writing_faults(s.bytes_at(where + 8 * page - 1)));
    CHECK(s.machine.physical_bytes() == 0);
    CHECK(s.free(where, 8 * page) == code::success);
    CHECK(s.empty());
}

TEMPLATE_TEST_CASE("a reservation's size is a multiple of the host page and its alignment a power of two",
                   "[simulated]", cuda_names, hip_names) {
    scene<TestType> s;
    typename scene<TestType>::pointer where{};
    const auto reserve = [&](std::size_t size, std::size_t align, std::uintptr_t hint,
                             unsigned long long flags) {
        return s.call.mem_address_reserve(&where, size, align, s.at(hint), flags);
    };
    CHECK(reserve(0, 0, 0, 0) == code::invalid_value);
    CHECK(reserve(page + 1, 0, 0, 0) == code::invalid_value);
    CHECK(reserve(page, 3 * mib, 0, 0) == code::invalid_value);
    CHECK(reserve(page, 0, 4097, 0) == code::invalid_value);
    CHECK(reserve(page, 0, 0, 1) == code::invalid_value);
    CHECK(s.call.mem_address_reserve(nullptr, page, 0, {}, 0) == code::invalid_value);
    CHECK(s.machine.leaks().reservations == 0);

    CHECK(reserve(4096, 0, 0, 0) == code::success);
    CHECK(s.free(simulated::number_of(where), 4096) == code::success);
    for (const std::size_t align : {page, 64 * mib, 1024 * mib}) {
        REQUIRE(reserve(page, align, 0, 0) == code::success);
        CHECK(simulated::number_of(where) % align == 0);
        CHECK(s.free(simulated::number_of(where), page) == code::success);
    }
}

TEMPLATE_TEST_CASE("the address asked for is only a hint", "[simulated]", cuda_names, hip_names) {
    scene<TestType> s;
    typename scene<TestType>::pointer where{};
    const std::uintptr_t taken = s.reserve(page);
    REQUIRE(s.call.mem_address_reserve(&where, page, 0, s.at(taken), 0) == code::success);
    CHECK(simulated::number_of(where) != taken);
}

TEMPLATE_TEST_CASE("freeing wants the exact address and size, and nothing mapped", "[simulated]", cuda_names,
                   hip_names) {
    scene<TestType> s;
    const std::uintptr_t where = s.reserve(4 * page);
    CHECK(s.free(where, 3 * page) == code::invalid_value);
    CHECK(s.free(where + page, 3 * page) == code::invalid_value);
    CHECK(s.free(where + 64 * page, 4 * page) == code::invalid_value);
    s.map_fresh(where + page);
    CHECK(s.free(where, 4 * page) == code::invalid_value);
    REQUIRE(s.unmap(where + page, page) == code::success);
    CHECK(s.free(where, 4 * page) == code::success);
    CHECK(s.free(where, 4 * page) == code::invalid_value);
    CHECK(s.empty());
}

TEMPLATE_TEST_CASE("a limit on addresses shows as out of memory", "[simulated]", cuda_names, hip_names) {
    machine_options options;
    options.address_limit = 10 * page;
    scene<TestType> s{options};
    const std::uintptr_t first = s.reserve(8 * page);
    typename scene<TestType>::pointer where{};
    CHECK(s.call.mem_address_reserve(&where, 3 * page, 0, {}, 0) == code::out_of_memory);
    CHECK(s.call.mem_address_reserve(&where, 2 * page, 0, {}, 0) == code::success);
    CHECK(s.free(first, 8 * page) == code::success);
    CHECK(s.call.mem_address_reserve(&where, 3 * page, 0, {}, 0) == code::success);
}
