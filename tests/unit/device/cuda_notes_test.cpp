// SPDX-License-Identifier: Apache-2.0
// What CUDA's virtual memory demands and what hurts its users, each as a test over a driver as strict as the
// manual: here of addresses, memory and mappings. docs/device-backends.md says which of them have none, and
// why.
#include "cuda_case.hpp"

#include <support/death.hpp>

#include <vtensor/virtual_tensor.hpp>

#include <array>
#include <cstddef>

namespace vtensor::testing {
namespace {

TEST_CASE("reserving: whole granules at an alignment that is a power of two, wherever the driver puts them",
          "[device]") {
    cuda_case on;
    std::array<address, 2> got;
    for (address& where : got) {
        const auto made = on.memory->reserve(6_MiB, 16_MiB);
        REQUIRE(ended(made) == "ok");
        where = *made;
        CHECK(where.is_multiple_of(16_MiB));
    }
    CHECK(got[0] != got[1]);
    CHECK(ended(on.memory->reserve(6_MiB + bytes{4096}, bytes{0})) == ended(verb::reserve, errc::misaligned));
    CHECK(on.machine.calls(entry::mem_address_reserve) == 2); // what is wrong is not asked

    for (const address where : got)
        CHECK(ended(on.memory->release(where, 6_MiB)) == "ok");
    const auto freed = calls_of(on.machine, entry::mem_address_free);
    REQUIRE(freed.size() == 2);
    CHECK(freed[0].where == got[0].value());
    CHECK(freed[0].size == (6_MiB).count());
}

TEST_CASE("releasing: only what is exactly a reservation, with nothing mapped, reaches the driver",
          "[device]") {
    cuda_case on;
    chunks_at run{*on.memory, 2};
    run.map();
    CHECK(ended(on.memory->release(run.start, 8_MiB)) == ended(verb::release, errc::still_mapped));
    CHECK(ended(on.memory->release(run.start, 4_MiB)) == ended(verb::release, errc::not_reserved));
    CHECK(on.machine.calls(entry::mem_address_free) == 0);
    run.take_down();
    CHECK(on.machine.calls(entry::mem_address_free) == 1);
}

TEST_CASE("mapping: at offset 0 onto what is unmapped, closed until set_access, also when mapped again",
          "[device]") {
    cuda_case on;
    chunks_at run{*on.memory, 1};
    for (int round = 0; round < 3; ++round) {
        run.map();
        CHECK(open_bytes(on.machine, run.start, run.all()) == bytes{0});
        CHECK(reading_faults(run.start.to_pointer()));
        CHECK(ended(on.memory->set_access(run.start, run.all(), access_mode::read_write)) == "ok");
        CHECK_FALSE(writing_faults(run.start.to_pointer()));
        CHECK(ended(on.memory->map(run.start, run.chunks[0])) == ended(verb::map, errc::already_mapped));
        CHECK(ended(on.memory->unmap(run.start, run.all())) == "ok");
    }
    CHECK(on.machine.calls(entry::mem_map) == 3);
    run.take_down(false);
}

TEST_CASE("granularity: the one for the very properties that memory is created with", "[device]") {
    for (const auto choice : {granularity_choice::minimum, granularity_choice::recommended}) {
        cuda_case on{
            {.minimum_granularity = std::size_t{64} << 10, .recommended_granularity = std::size_t{2} << 20},
            {.granularity = choice}};
        CHECK(on.memory->granularity() == (choice == granularity_choice::minimum ? 64_KiB : 2_MiB));
        CHECK(on.memory->report().minimum == 64_KiB);
        CHECK(on.memory->report().recommended == 2_MiB);
        const auto odd = on.memory->create(on.memory->granularity() + bytes{4096});
        CHECK(ended(odd) == ended(verb::create, errc::misaligned));
    }
}

TEST_CASE("chunks: any multiple of the granularity is one handle, one mapping", "[device]") {
    cuda_case on;
    chunks_at run{*on.memory, 2, 64_MiB};
    run.map_and_open();
    CHECK(on.machine.calls(entry::mem_create) == 2);
    CHECK(on.machine.calls(entry::mem_map) == 2);
    CHECK(on.memory->mapping_count() == 2);
    CHECK(on.memory->mapped_bytes() == 128_MiB);
    run.take_down();
}

TEST_CASE("chunks: a size that is no multiple of the granularity never reaches the driver", "[device]") {
    cuda_case on;
    for (const bytes wrong : {3_MiB, 2_MiB + bytes{1}, bytes{4096}}) {
        CHECK(ended(on.memory->create(wrong)) == ended(verb::create, errc::misaligned));
        CHECK(chunk_pool<cuda_backend>::try_create(*on.memory, {.chunk_size = wrong}).code() ==
              errc::misaligned);
        CHECK_THROWS_AS((chunk_pool<cuda_backend>{*on.memory, {.chunk_size = wrong}}), bad_argument);
    }
    CHECK(on.machine.calls(entry::mem_create) == 0);
}

TEST_CASE("unmapping: several neighbours in one call, never a part of one", "[device]") {
    cuda_case on;
    chunks_at run{*on.memory, 16, 4_MiB};
    run.map_and_open();
    CHECK(ended(on.memory->unmap(run.start, 2_MiB)) == ended(verb::unmap, errc::partial_mapping));
    CHECK(ended(on.memory->unmap(run.at(1) + 2_MiB, 8_MiB)) == ended(verb::unmap, errc::partial_mapping));
    CHECK(on.machine.calls(entry::mem_unmap) == 0);
    CHECK(ended(on.memory->unmap(run.at(4), 4_MiB * 8)) == "ok");
    CHECK(on.machine.calls(entry::mem_unmap) == 1);
    CHECK(mapped_bytes(on.machine, run.start, run.all()) == 4_MiB * 8);
    CHECK(ended(on.memory->unmap(run.start, 16_MiB)) == "ok");
    CHECK(ended(on.memory->unmap(run.at(12), 16_MiB)) == "ok");
    run.take_down(false);
}

TEST_CASE("set_access: one call for a grown run, with one descriptor for each device", "[device]") {
    cuda_case on{{.devices = 3}, {.device = 1, .peers = {2, 0, 2}}};
    chunks_at run{*on.memory, 64};
    run.map_and_open();
    const auto calls = calls_of(on.machine, entry::mem_set_access);
    REQUIRE(calls.size() == 1);
    CHECK(calls[0].size == run.all().count());
    CHECK(calls[0].count == 3);
    for (const int device : {0, 1, 2})
        CHECK(open_bytes(on.machine, run.start, run.all(), device) == run.all());
    run.take_down();
}

TEST_CASE("a tensor that grows by many pages asks the driver once for access", "[device]") {
    cuda_case on;
    {
        chunk_pool<cuda_backend> pool{*on.memory};
        virtual_tensor<float, cuda_backend> tensor{pool, {8, 128}, 1 << 20};
        tensor.resize(100'000); // 195.3 pages of 512 rows
        CHECK(on.machine.calls(entry::mem_map) == 196);
        CHECK(on.machine.calls(entry::mem_set_access) == 1);
        CHECK(on.machine.calls(entry::mem_get_info) == 0); // microseconds each: never on the way
        CHECK(on.machine.calls(entry::stream_synchronize) == 0);
        tensor.resize(0);
        CHECK(on.machine.calls(entry::mem_unmap) == 1);
    }
}

TEST_CASE("taking down: unmapped, then released, then the addresses freed, also what the caller left behind",
          "[device]") {
    simulated_cuda machine;
    {
        auto opened = cuda_backend::try_open({.driver = machine.driver()});
        REQUIRE(opened);
        chunks_at run{*opened.backend, 3};
        run.map_and_open();
        REQUIRE(ended(opened.backend->destroy(run.chunks[1])) == "ok");
        machine.clear_log();
    }
    std::vector<entry> order;
    for (const auto& made : machine.log()) {
        CHECK(made.result == 0);
        if (made.what == entry::mem_unmap || made.what == entry::mem_release ||
            made.what == entry::mem_address_free || made.what == entry::primary_ctx_release)
            order.push_back(made.what);
    }
    CHECK(order == std::vector{entry::mem_unmap, entry::mem_unmap, entry::mem_unmap, entry::mem_release,
                               entry::mem_release, entry::mem_release, entry::mem_address_free,
                               entry::primary_ctx_release});
    CHECK(to_string(machine.leaks()) == "nothing");
}

TEST_CASE("a destroyed chunk's memory returns with its last mapping, and an exported one with its descriptor",
          "[device]") {
    cuda_case on{{}, {.sharing = sharing_wish::descriptor}};
    chunks_at run{*on.memory, 1};
    run.map_and_open();
    REQUIRE(ended(on.memory->map(run.at(1), run.chunks[0])) == "ok");
    auto exported = on.memory->export_chunk(run.chunks[0]);
    REQUIRE(ended(exported) == "ok");
    CHECK(ended(on.memory->destroy(run.chunks[0])) == "ok");
    CHECK(ended(on.memory->unmap(run.at(0), run.size)) == "ok");
    CHECK(on.memory->physical_bytes() == granule);
    CHECK(on.machine.physical_bytes() == granule.count());
    CHECK(ended(on.memory->unmap(run.at(1), run.size)) == "ok");
    CHECK(on.memory->physical_bytes() == bytes{0});
    CHECK(on.machine.physical_bytes() == granule.count()); // the descriptor keeps it
    *exported = os_handle{};
    CHECK(on.machine.physical_bytes() == 0);
    CHECK(ended(on.memory->release(run.start, 2 * run.all())) == "ok");
}

TEST_CASE("the ceiling on accessible mappings: out_of_memory with the driver's code, and nothing changed",
          "[device]") {
    cuda_case on{{.max_accessible_mappings = 6}};
    chunks_at run{*on.memory, 8};
    run.map();
    REQUIRE(ended(on.memory->set_access(run.start, run.size * 5, access_mode::read_write)) == "ok");
    const status refused = on.memory->set_access(run.at(5), run.size * 3, access_mode::read_write);
    CHECK(ended(refused) == ended(verb::set_access, errc::out_of_memory));
    CHECK(refused.error().native == 2);
    CHECK(open_bytes(on.machine, run.start, run.all()) == run.size * 5);
    CHECK(ended(on.memory->set_access(run.at(5), run.size, access_mode::read_write)) == "ok");
    run.take_down();
}

TEST_CASE("the budget of mappings is counted and refused with a code of its own", "[device]") {
    cuda_case on{{}, {.max_mappings = 3}};
    chunks_at run{*on.memory, 4};
    for (const std::size_t index : {0u, 1u, 2u})
        REQUIRE(ended(on.memory->map(run.at(index), run.chunks[0])) == "ok");
    CHECK(on.memory->mapping_count() == 3);
    CHECK(ended(on.memory->map(run.at(3), run.chunks[1])) == ended(verb::map, errc::too_many_mappings));
    CHECK(ended(on.memory->map(run.at(0), run.chunks[1])) == ended(verb::map, errc::already_mapped));
    CHECK(on.machine.calls(entry::mem_map) == 3);
    CHECK(ended(on.memory->unmap(run.at(1), run.size)) == "ok");
    CHECK(ended(on.memory->map(run.at(3), run.chunks[1])) == "ok");
    CHECK(ended(on.memory->unmap(run.at(2), 2 * run.size)) == "ok");
    CHECK(ended(on.memory->unmap(run.at(0), run.size)) == "ok");
    run.take_down(false);
}

} // namespace
} // namespace vtensor::testing
