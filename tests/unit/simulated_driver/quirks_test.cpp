// SPDX-License-Identifier: Apache-2.0
//
// Each misbehaviour that HIP runtimes have shown, off unless switched on.
#include "scene.hpp"

#include <support/death.hpp>

#include <unistd.h>

using namespace vtensor;
using namespace vtensor::testing;
using vtensor::testing::simulated::violation_kind;

namespace {

using hip_scene = scene<hip_names>;

template <class Set>
machine_options with_quirk(Set set) {
    machine_options options;
    set(options.quirks);
    return options;
}

} // namespace

TEST_CASE("quirk: unmapping several mappings at once pins their addresses", "[simulated]") {
    hip_scene s{with_quirk([](auto& quirks) { quirks.unmap_of_several_pins_addresses = true; })};
    const std::uintptr_t one_by_one = s.reserve(2 * page);
    const std::uintptr_t at_once = s.reserve(2 * page);
    for (const std::uintptr_t where : {one_by_one, at_once}) {
        s.map_fresh(where);
        s.map_fresh(where + page);
    }
    CHECK(s.unmap(one_by_one, page) == code::success);
    CHECK(s.unmap(one_by_one + page, page) == code::success);
    CHECK(s.free(one_by_one, 2 * page) == code::success);
    CHECK(s.unmap(at_once, 2 * page) == code::success);
    CHECK(s.free(at_once, 2 * page) == code::invalid_value);
    CHECK(s.machine.leaks().reservations == 1);
    CHECK(s.machine.physical_bytes() == 0);
}

TEST_CASE("quirk: unmapping several mappings at once fails", "[simulated]") {
    hip_scene s{with_quirk([](auto& quirks) { quirks.unmap_of_several_fails = true; })};
    const std::uintptr_t where = s.reserve(2 * page);
    s.map_fresh(where);
    s.map_fresh(where + page);
    CHECK(s.unmap(where, 2 * page) == code::invalid_value);
    CHECK(s.machine.mapping_count() == 2);
    CHECK(s.unmap(where, page) == code::success);
    CHECK(s.unmap(where + page, page) == code::success);
}

TEST_CASE("quirk: 4 KiB are reported where only 2 MiB work", "[simulated]") {
    machine_options options = with_quirk([](auto& quirks) { quirks.working_granularity = page; });
    options.minimum_granularity = 4096;
    hip_scene s{options};
    const auto with = s.properties();
    std::size_t unit = 0;
    REQUIRE(s.call.mem_get_allocation_granularity(&unit, &with, 0) == code::success);
    CHECK(unit == 4096);
    hip_driver::pointer got{};
    REQUIRE(s.call.mem_address_reserve(&got, 4 * page, page, nullptr, 0) == code::success);
    const std::uintptr_t where = simulated::number_of(got);
    s.map_fresh(where, 4096);
    CHECK(s.grant(where, 4096) == code::unknown);
    s.map_fresh(where + page, page);
    CHECK(s.grant(where + page, page) == code::success);
    s.map_fresh(where + 2 * page + 4096, page); // of the right size at the wrong place
    CHECK(s.grant(where + 2 * page + 4096, page) == code::unknown);
}

TEST_CASE("quirk: set-access works only from the reservation's first mapping on", "[simulated]") {
    hip_scene s{with_quirk([](auto& quirks) { quirks.set_access_only_from_start = true; })};
    const std::uintptr_t where = s.reserve(4 * page);
    s.map_fresh(where);
    CHECK(s.grant(where, page) == code::success);
    s.map_fresh(where + page);
    CHECK(s.grant(where + page, page) == code::invalid_value);
    CHECK(s.grant(where, 2 * page) == code::success);
    CHECK_FALSE(writing_faults(s.bytes_at(where + page)));
}

TEST_CASE("quirk: a peer's access after the owner's own corrupts the mapping", "[simulated]") {
    machine_options options =
        with_quirk([](auto& quirks) { quirks.peer_access_after_local_corrupts = true; });
    options.devices = 2;
    hip_scene s{options};
    const std::uintptr_t good = s.reserve(page);
    s.map_fresh(good);
    CHECK(s.grant(good, page, 3, 1) == code::success);
    CHECK(s.grant(good, page, 3, 0) == code::success);
    CHECK_FALSE(writing_faults(s.bytes_at(good)));
    CHECK(s.machine.violations().empty());

    const std::uintptr_t bad = s.reserve(page);
    s.map_fresh(bad);
    const vtensor::hip::abi::access_desc local_first[] = {{{1, 0}, 3}, {{1, 1}, 3}};
    CHECK(s.call.mem_set_access(s.at(bad), page, local_first, 2) == code::success); // says nothing
    CHECK(s.machine.violation_count(violation_kind::corrupted) == 1);
    CHECK(reading_faults(s.bytes_at(bad)));
    CHECK(s.machine.accessible_bytes(s.bytes_at(bad), page) == 0);
    CHECK(s.machine.launch(s.make_stream(), {{bad, page}}, {}) == code::success);
    CHECK(s.machine.violation_count(violation_kind::illegal_access) == 1);
}

TEST_CASE("quirk: memory returns only with its addresses", "[simulated]") {
    hip_scene s{with_quirk([](auto& quirks) { quirks.memory_returns_with_addresses = true; })};
    const std::uintptr_t where = s.reserve(2 * page);
    s.map_fresh(where);
    s.map_fresh(where + page);
    CHECK(s.unmap(where, 2 * page) == code::success);
    CHECK(s.machine.physical_bytes() == 2 * page);
    CHECK(s.free(where, 2 * page) == code::success);
    CHECK(s.machine.physical_bytes() == 0);
}

TEST_CASE("quirk: creating much at once fails", "[simulated]") {
    hip_scene s{with_quirk([](auto& quirks) { quirks.largest_create = page; })};
    const auto with = s.properties();
    hip_driver::handle made{};
    CHECK(s.call.mem_create(&made, 2 * page, &with, 0) == code::invalid_value);
    CHECK(s.call.mem_create(&made, page, &with, 0) == code::success);
}

TEST_CASE("quirk: reserving with an alignment fails", "[simulated]") {
    hip_scene s{with_quirk([](auto& quirks) { quirks.reserve_with_alignment_fails = true; })};
    hip_driver::pointer where{};
    CHECK(s.call.mem_address_reserve(&where, page, page, nullptr, 0) == code::invalid_value);
    CHECK(s.call.mem_address_reserve(&where, page, 0, nullptr, 0) == code::success);
}

TEST_CASE("quirk: import reads the descriptor at an address", "[simulated]") {
    for (const bool by_address : {false, true}) {
        hip_scene s{with_quirk([&](auto& quirks) { quirks.import_reads_address = by_address; })};
        const auto memory = s.create(page, s.properties(0, 1));
        int file = -1;
        REQUIRE(s.call.mem_export_to_shareable_handle(&file, memory, 1, 0) == code::success);
        hip_driver::handle made{};
        void* const as_value = simulated::object_of<void*>(static_cast<std::uint64_t>(file));
        CHECK((s.call.mem_import_from_shareable_handle(&made, as_value, 1) == code::success) == !by_address);
        CHECK((s.call.mem_import_from_shareable_handle(&made, &file, 1) == code::success) == by_address);
        ::close(file);
    }
}

TEST_CASE("quirk: the location of imported memory is wrong", "[simulated]") {
    machine_options options = with_quirk([](auto& quirks) { quirks.imported_location_is_wrong = true; });
    options.devices = 2;
    hip_scene s{options};
    hip_scene exporter{options};
    const auto memory = exporter.create(page, s.properties(1, 1));
    int file = -1;
    REQUIRE(exporter.call.mem_export_to_shareable_handle(&file, memory, 1, 0) == code::success);
    hip_driver::handle made{};
    REQUIRE(s.call.mem_import_from_shareable_handle(
                &made, simulated::object_of<void*>(static_cast<std::uint64_t>(file)), 1) == code::success);
    ::close(file);
    auto told = s.properties();
    REQUIRE(s.call.mem_get_allocation_properties_from_handle(&told, made) == code::success);
    CHECK(told.location.id == 0);
    REQUIRE(exporter.call.mem_get_allocation_properties_from_handle(&told, memory) == code::success);
    CHECK(told.location.id == 1);
}
