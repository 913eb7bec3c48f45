// SPDX-License-Identifier: Apache-2.0
// What HIP runtimes do otherwise than documented, each as a test: a machine with that quirk, the backend that
// does not know of it, which comes to grief, and the backend that does.
#include "machines.hpp"

#include <vtensor/virtual_tensor.hpp>

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace vtensor::testing {
namespace {

using Catch::Matchers::ContainsSubstring;

constexpr int with_version(int major, int minor) { return hip::abi::version(major, minor); }

/// A tensor that grows step by step, shrinks and goes, as engines do. False where a step was refused.
bool use(hip_backend& memory, bytes chunk = granule) {
    chunk_pool<hip_backend> pool{memory, {.chunk_size = chunk}};
    auto tensor = virtual_tensor<std::byte, hip_backend>::try_create(pool, row_shape{chunk.count()}, 16);
    if (!tensor)
        return false;
    for (const std::size_t rows : {1u, 2u, 7u, 3u, 4u, 0u, 5u}) {
        if (!(*tensor).try_resize(rows))
            return false;
        for (std::size_t row = 0; row < rows; ++row)
            (*tensor).data()[row * chunk.count()] = std::byte{1};
    }
    return true;
}

/// What a machine says afterwards: "" where all was well.
std::string verdict(simulated_hip& machine, const hip_options& wanted, bytes chunk = granule) {
    std::string said;
    {
        auto opened = hip_backend::try_open(wanted);
        if (!opened)
            return "not opened: " + opened.reason;
        if (!use(*opened.backend, chunk))
            said = "refused";
    }
    for (const auto& violation : machine.violations())
        said += (said.empty() ? "" : ", ") + std::string{name(violation.kind)};
    machine.forgive();
    if (!machine.leaks().none())
        said += (said.empty() ? "left " : ", left ") + to_string(machine.leaks());
    return said;
}

struct situation {
    const char* what;
    int version;
    simulated::hip_quirks quirks;
    std::string without; ///< how it ends where the backend does not know
    bytes chunk = granule;
    machine_options more{};
};

TEST_CASE("HIP's quirks break a backend that does not know them, and none that does", "[device]") {
    const std::vector<situation> situations{
        {"unmap one by one: one call for several keeps the addresses",
         with_version(6, 3),
         {.unmap_of_several_pins_addresses = true},
         "left "},
        {"unmap one by one: one call for several fails",
         with_version(7, 2),
         {.unmap_of_several_fails = true},
         "refused"},
        {"granularity: 4 KiB is reported and 2 MiB works",
         with_version(7, 2),
         {.working_granularity = granule.count()},
         "not opened",
         granule,
         {.minimum_granularity = 4096, .recommended_granularity = 4096}},
        {"set access over the whole of what is mapped",
         with_version(7, 2),
         {.set_access_only_from_start = true},
         "refused"},
        {"large chunks are created in pieces",
         with_version(6, 4),
         {.largest_create = granule.count()},
         "refused",
         4 * granule},
        {"addresses are reserved without an alignment",
         with_version(6, 4),
         {.reserve_with_alignment_fails = true},
         "not opened"},
    };
    for (const auto& [what, version, quirks, without, chunk, more] : situations) {
        INFO(what);
        machine_options options = more;
        options.version = version;
        options.quirks = quirks;
        {
            simulated_hip machine{options};
            CHECK(verdict(machine, {.allow_plain_allocation = false, .driver = machine.driver()}, chunk) ==
                  "");
        }
        simulated_hip machine{options};
        const std::string ignorant = verdict(
            machine, {.allow_plain_allocation = false, .quirks = device_quirks{}, .driver = machine.driver()},
            chunk);
        CHECK_THAT(ignorant, ContainsSubstring(without));
    }
}

TEST_CASE("HIP: local access is granted after that of peers, also when it changes", "[device]") {
    const auto with = [](std::optional<device_quirks> quirks) {
        simulated_hip machine{{.devices = 2,
                               .version = with_version(7, 14),
                               .quirks = {.peer_access_after_local_corrupts = true}}};
        {
            hip_backend memory{{.peers = {1}, .quirks = quirks, .driver = machine.driver()}};
            chunks_at run{memory, 2};
            run.map_and_open();
            for (const access_mode other :
                 {access_mode::read, access_mode::read_write}) // where there was some
                CHECK(ended(memory.set_access(run.start, run.all(), other)) == "ok");
            CHECK(ended(memory.set_peer_access(run.at(1), run.size, access_mode::read, 1)) == "ok");
            CHECK(ended(memory.set_peer_access(run.at(1), run.size, access_mode::read_write, 1)) == "ok");
            if (!quirks) {
                for (const int device : {0, 1})
                    CHECK(open_bytes(machine, run.start, run.all(), device) == run.all());
            }
            run.take_down();
        }
        return machine.violation_count(simulated::violation_kind::corrupted);
    };
    CHECK(with(device_quirks{}) > 0);
    CHECK(with(std::nullopt) == 0);
}

TEST_CASE("HIP: memory that returns with its addresses only is reported", "[device]") {
    simulated_hip machine{{.version = with_version(6, 4), .quirks = {.memory_returns_with_addresses = true}}};
    hip_backend memory{{.driver = machine.driver()}};
    CHECK(memory.quirks().memory_returns_with_addresses);
    CHECK_THAT(memory.describe(),
               ContainsSubstring("released memory is back only when its addresses are freed"));
    chunks_at run{memory, 1};
    run.map_and_open();
    CHECK(ended(memory.unmap(run.start, run.all())) == "ok");
    CHECK(ended(memory.destroy(run.chunks[0])) == "ok");
    CHECK(memory.physical_bytes() == bytes{0}); // ours is what was created
    CHECK(machine.physical_bytes() == granule.count());
    CHECK(ended(memory.release(run.start, 2 * granule)) == "ok");
    CHECK(machine.physical_bytes() == 0);
}

TEST_CASE("HIP: access over whole runs is the widest of the run, and a gap ends it", "[device]") {
    simulated_hip machine{{.version = with_version(7, 2)}};
    hip_backend memory{{.driver = machine.driver()}};
    REQUIRE(memory.quirks().access_over_whole_run);
    const auto where = memory.reserve(6 * granule, bytes{0});
    const auto chunk = memory.create(granule);
    const auto at = [&](std::size_t index) { return *where + granule * index; };
    for (const std::size_t index : {0u, 1u, 3u, 4u})
        REQUIRE(ended(memory.map(at(index), *chunk)) == "ok");
    const auto open = [&](std::size_t index) { return open_bytes(machine, at(index), granule) == granule; };
    REQUIRE(ended(memory.set_access(at(1), granule, access_mode::read_write)) == "ok");
    CHECK((open(0) && open(1) && !open(3) && !open(4)));
    REQUIRE(ended(memory.set_access(at(0), granule, access_mode::read)) == "ok");
    CHECK((open(0) && open(1))); // the second still may be written
    REQUIRE(ended(memory.set_access(at(1), granule, access_mode::read)) == "ok");
    CHECK((!open(0) && !open(1))); // now neither
    CHECK(ended(memory.unmap(at(0), 2 * granule)) == "ok");
    CHECK(ended(memory.unmap(at(3), 2 * granule)) == "ok");
    CHECK(ended(memory.destroy(*chunk)) == "ok");
    CHECK(ended(memory.release(*where, 6 * granule)) == "ok");
}

TEST_CASE("the table of quirks: by version and architecture, each with its source", "[device]") {
    std::set<hip::quirk_kind> kinds;
    for (const hip::quirk& row : hip::known_quirks) {
        kinds.insert(row.kind);
        CHECK(row.from < row.before);
        CHECK_FALSE(row.what.empty());
        CHECK_THAT(std::string{row.source}, ContainsSubstring("github.com/"));
        CHECK(row.applies(row.from, std::string{row.architecture} + ":sramecc+"));
        CHECK_FALSE(row.applies(row.before, row.architecture));
        CHECK_THAT(hip::describe_quirks(row.from, row.architecture),
                   ContainsSubstring(std::string{row.source}));
    }
    CHECK(kinds.size() == 7); // all of them
    constexpr hip::quirk one{hip::quirk_kind::local_access_last, 10, 20, "gfx94", "", ""};
    STATIC_REQUIRE(one.applies(10, "gfx942:sramecc+"));
    STATIC_REQUIRE(one.applies(19, "gfx940"));
    STATIC_REQUIRE_FALSE(one.applies(9, "gfx942"));
    STATIC_REQUIRE_FALSE(one.applies(20, "gfx942"));
    STATIC_REQUIRE_FALSE(one.applies(15, "gfx1100"));

    STATIC_REQUIRE(hip::quirks_of(with_version(6, 3), "gfx942").largest_piece == granule);
    STATIC_REQUIRE(hip::quirks_of(with_version(7, 0), "gfx942").largest_piece == bytes{0});
    STATIC_REQUIRE(hip::quirks_of(with_version(7, 2), "gfx942").access_over_whole_run);
    STATIC_REQUIRE_FALSE(hip::quirks_of(with_version(7, 2), "gfx942").local_access_last);
    STATIC_REQUIRE(hip::quirks_of(with_version(7, 14), "gfx942").local_access_last);
    STATIC_REQUIRE_FALSE(hip::quirks_of(with_version(7, 14), "gfx942").access_over_whole_run);
    STATIC_REQUIRE(hip::quirks_of(with_version(9, 0), "gfx1201").unmap_one_by_one);
}

// ---- plain allocation ----

TEST_CASE(
    "HIP: where the self-test fails reservations are plain allocations, with the reason, and tensors work",
    "[device]") {
    simulated_hip machine;
    {
        hip_driver broken = machine.driver();
        broken.mem_map = [](void*, std::size_t, std::size_t, ihipMemGenericAllocationHandle*,
                            unsigned long long) { return simulated::code::unknown; };
        hip_backend memory{{.sharing = sharing_wish::descriptor, .driver = broken}};
        CHECK(memory.is_plain());
        CHECK_THAT(memory.report().virtual_memory.reason, ContainsSubstring("mapping failed with 999"));
        CHECK_FALSE(memory.can_alias());
        CHECK_FALSE(memory.can_export());

        machine.clear_log();
        chunk_pool<hip_backend> pool{memory};
        {
            virtual_tensor<std::byte, hip_backend> tensor{pool, row_shape{granule.count()}, 8};
            CHECK(machine.leaks().plain_allocations == 1);
            CHECK(machine.physical_bytes() >= (8 * granule).count());
            tensor.resize(5);
            CHECK(tensor.mapped_bytes() == 5 * granule);
            for (std::size_t row = 0; row < 5; ++row)
                tensor.data()[row * granule.count()] = std::byte{1};
            CHECK(address{tensor.data()}.is_multiple_of(granule));
            tensor.resize(1);
        }
        CHECK(machine.leaks().plain_allocations == 0);
        CHECK(machine.calls(entry::mem_create) == 0);
        CHECK(machine.calls(entry::mem_set_access) == 0);

        // The contract's refusals are the same; a second mapping of a chunk is one more.
        chunks_at run{memory, 2};
        run.map_and_open();
        CHECK(ended(memory.map(run.at(2), run.chunks[0])) == ended(verb::map, errc::unsupported));
        CHECK(ended(memory.map(run.at(1), run.chunks[0])) == ended(verb::map, errc::already_mapped));
        CHECK(ended(memory.release(run.start, 2 * run.all())) == ended(verb::release, errc::still_mapped));
        CHECK(ended(memory.unmap(run.at(0), 2 * run.all())) == ended(verb::unmap, errc::not_mapped));
        CHECK(ended(memory.export_chunk(run.chunks[0])) == ended(verb::export_chunk, errc::unsupported));
        run.take_down();
        CHECK(ended(memory.reserve(1024_TiB, bytes{0})) == ended(verb::reserve, errc::out_of_addresses));
    }
    CHECK(to_string(machine.leaks()) == "nothing");
}

} // namespace
} // namespace vtensor::testing
