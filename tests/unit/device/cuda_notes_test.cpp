// SPDX-License-Identifier: Apache-2.0
// What CUDA's virtual memory demands and what hurts its users, each as a test over a driver as strict as the
// manual. docs/device-backends.md says which of them have none, and why.
#include "machines.hpp"

#include <support/death.hpp>

#include <vtensor/virtual_tensor.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

namespace vtensor::testing {
namespace {

struct cuda_case {
    explicit cuda_case(const machine_options& machine_is = {}, cuda_options wanted = {})
        : machine{machine_is} {
        wanted.driver = machine.driver();
        auto opened = cuda_backend::try_open(wanted);
        INFO(opened.reason);
        REQUIRE(opened);
        memory = std::move(opened.backend);
        machine.clear_log();
    }
    ~cuda_case() {
        memory.reset();
        CHECK(to_string(machine.leaks()) == "nothing");
    }
    simulated_cuda machine;
    std::unique_ptr<cuda_backend> memory;
};

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

TEST_CASE("peers: each needs its own grant, and each can have its own", "[device]") {
    cuda_case on{{.devices = 3}};
    chunks_at run{*on.memory, 2};
    run.map_and_open();
    CHECK(on.memory->can_reach(0));
    CHECK(on.memory->can_reach(2));
    CHECK_FALSE(on.memory->can_reach(3));
    CHECK_FALSE(on.memory->can_reach(-1));
    CHECK(open_bytes(on.machine, run.start, run.all(), 1) == bytes{0});
    CHECK(ended(on.memory->set_peer_access(run.at(1), run.size, access_mode::read_write, 1)) == "ok");
    CHECK(open_bytes(on.machine, run.start, run.all(), 1) == run.size);
    CHECK(open_bytes(on.machine, run.start, run.all(), 2) == bytes{0});
    CHECK(open_bytes(on.machine, run.start, run.all(), 0) == run.all());

    // Refused as set_access refuses, and for devices that there are not.
    const auto refused = [&](address where, bytes size, access_mode allowed, int device) {
        return ended(on.memory->set_peer_access(where, size, allowed, device));
    };
    constexpr verb what = verb::set_peer_access;
    CHECK(refused(run.start, run.size, access_mode::read, 3) == ended(what, errc::no_device));
    CHECK(refused(run.start, bytes{0}, access_mode::read, 1) == ended(what, errc::invalid_argument));
    CHECK(refused(run.start, run.size, static_cast<access_mode>(7), 1) ==
          ended(what, errc::invalid_argument));
    CHECK(refused(run.start, bytes{4096}, access_mode::read, 1) == ended(what, errc::misaligned));
    CHECK(refused(run.at(100), run.size, access_mode::read, 1) == ended(what, errc::not_reserved));
    CHECK(refused(run.at(2), run.size, access_mode::read, 1) == ended(what, errc::not_mapped));

    CHECK(ended(on.memory->set_peer_access(run.at(1), run.size, access_mode::none, 1)) == "ok");
    CHECK(open_bytes(on.machine, run.start, run.all(), 1) == bytes{0});
    run.take_down();
}

TEST_CASE("peers: a grant goes with its mapping, and does not come back with the next one", "[device]") {
    cuda_case on{{.devices = 2}};
    chunks_at run{*on.memory, 2};
    run.map_and_open();
    CHECK(ended(on.memory->set_peer_access(run.start, run.all(), access_mode::read_write, 1)) == "ok");
    CHECK(ended(on.memory->unmap(run.start, run.all())) == "ok");
    run.map_and_open();
    on.machine.fail_entry(entry::mem_set_access, simulated::code::unknown); // and what was is told again
    CHECK(ended(on.memory->set_access(run.start, run.all(), access_mode::read)) ==
          ended(verb::set_access, errc::native_failure));
    on.machine.disarm();
    CHECK(open_bytes(on.machine, run.start, run.all(), 0) == run.all());
    CHECK(open_bytes(on.machine, run.start, run.all(), 1) == bytes{0});
    run.take_down();
}

TEST_CASE("peers: a device out of reach is refused at construction and afterwards", "[device]") {
    simulated_cuda machine{{.devices = 2, .peers_can_access = false}};
    const auto refused = cuda_backend::try_open({.peers = {1}, .driver = machine.driver()});
    CHECK(refused.failure.code == errc::unsupported);
    CHECK(refused.reason.find("device 1 is no peer") != std::string::npos);
    const auto opened = cuda_backend::try_open({.driver = machine.driver()});
    REQUIRE(opened);
    chunks_at run{*opened.backend, 1};
    run.map();
    CHECK_FALSE(opened.backend->can_reach(1));
    CHECK(ended(opened.backend->set_peer_access(run.start, run.size, access_mode::read, 1)) ==
          ended(verb::set_peer_access, errc::unsupported));
    run.take_down();
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

TEST_CASE("work in flight: what it reads is unmapped only behind the event recorded after it", "[device]") {
    for (const bool in_order : {true, false}) {
        cuda_case on;
        const cuda_stream stream{on.machine};
        {
            chunk_pool<cuda_backend> pool{*on.memory};
            virtual_tensor<float, cuda_backend> tensor{pool, {512}, 10 * 1024};
            tensor.resize(4 * 1024);
            const address start{tensor.data()};
            on.machine.stall(stream.get());
            REQUIRE(on.machine.launch(stream.get(), {{start.value(), (8_MiB).count()}}, {}) == 0);
            if (in_order) {
                tensor.resize(1024, stream.get());
                CHECK(mapped_bytes(on.machine, start, 8_MiB) == 8_MiB);
                on.machine.resume(stream.get());
                tensor.trim();
                CHECK(pool.retiring().reclaim().ok());
                CHECK(mapped_bytes(on.machine, start, 8_MiB) == 2_MiB);
                CHECK(on.machine.violations().empty());
            } else { // and without the stream the simulation would have told
                tensor.resize(1024);
                CHECK(on.machine.violation_count(simulated::violation_kind::unmapped_in_use) == 1);
                on.machine.forgive();
                on.machine.resume(stream.get());
                on.machine.forgive();
            }
            CHECK(on.machine.calls(entry::stream_synchronize) == 0);
        }
    }
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

TEST_CASE("registrations go stale: the epoch of a reservation rises with every remap and the caller is told",
          "[device]") {
    std::vector<remap_event> heard;
    cuda_case on{{}, {.on_remap = [&](const remap_event& event) { heard.push_back(event); }}};
    chunks_at run{*on.memory, 2};
    const auto other = on.memory->reserve(2_MiB, bytes{0});
    CHECK(on.memory->epoch(run.start).value() == 0);
    run.map_and_open();
    CHECK(on.memory->epoch(run.at(3)).value() == 2); // anywhere in the reservation
    CHECK(ended(on.memory->map(run.start, run.chunks[0])) == ended(verb::map, errc::already_mapped));
    CHECK(ended(on.memory->unmap(run.start, run.all())) == "ok");
    CHECK(on.memory->epoch(run.start).value() == 3);
    CHECK(on.memory->epoch(*other).value() == 0);
    CHECK(on.memory->epoch(address{}).code() == errc::not_reserved);
    REQUIRE(heard.size() == 3);
    for (std::size_t index = 0; index < heard.size(); ++index) {
        CHECK(heard[index].reservation == run.start);
        CHECK(heard[index].size == 2 * run.all());
        CHECK(heard[index].epoch == index + 1);
    }
    CHECK(ended(on.memory->release(*other, 2_MiB)) == "ok");
    run.take_down(false);
}

TEST_CASE("a remap callback may call the backend", "[device]") {
    cuda_backend* self = nullptr;
    std::uint64_t seen = 0;
    cuda_case on{
        {}, {.on_remap = [&](const remap_event& event) { seen = self->epoch(event.reservation).value(); }}};
    self = on.memory.get();
    chunks_at run{*on.memory, 1};
    run.map();
    CHECK(seen == 1);
    run.take_down();
}

TEST_CASE("contexts: current around each call and as before afterwards, on any thread", "[device]") {
    simulated_cuda machine{{.devices = 2, .contexts = simulated::context_rule::everywhere}};
    const auto engine = machine.make_engine_context(1);
    const cuda_driver driver = machine.driver();
    REQUIRE(driver.init(0) == 0);
    for (const bool own : {false, true}) {
        auto opened = cuda_backend::try_open({.context = own ? engine : nullptr, .driver = driver});
        INFO(opened.reason);
        REQUIRE(opened);
        CHECK(opened.backend->report().ordinal == (own ? 1 : 0)); // the context says which device
        CHECK(machine.leaks().contexts == (own ? 0u : 1u));       // the primary one is retained, no other
        const auto use = [&] {
            chunks_at run{*opened.backend, 2};
            run.map_and_open();
            run.take_down();
        };
        use(); // with nothing current
        CHECK(machine.current_context() == 0);
        std::thread{use}.join(); // on a thread that CUDA has not seen
        REQUIRE(driver.ctx_push_current(engine) == 0);
        const auto before = machine.current_context();
        machine.clear_log();
        use(); // with the engine's current
        CHECK(machine.current_context() == before);
        CHECK((machine.calls(entry::ctx_push_current) == 0) == own); // where it is current nothing is pushed
        CUctx_st* popped = nullptr;
        CHECK(driver.ctx_pop_current(&popped) == 0);
    }
    CHECK(machine.leaks().pushed_contexts == 0);
}

/// What every call of a backend goes through, counted.
struct counted_driver {
    static inline cuda_driver real;
    static inline int calls = 0;

    static cuda_driver over(const simulated_cuda& machine) {
        real = machine.driver();
        cuda_driver counted = real;
        counted.ctx_get_current = [](CUctx_st** current) { return ++calls, real.ctx_get_current(current); };
        counted.mem_unmap = [](unsigned long long where, std::size_t size) {
            return ++calls, real.mem_unmap(where, size);
        };
        counted.mem_release = [](unsigned long long memory) { return ++calls, real.mem_release(memory); };
        counted.mem_address_free = [](unsigned long long where, std::size_t size) {
            return ++calls, real.mem_address_free(where, size);
        };
        counted.device_primary_ctx_release = [](int device) {
            return ++calls, real.device_primary_ctx_release(device);
        };
        counted.device_can_access_peer = [](int* can, int device, int peer) {
            return ++calls, real.device_can_access_peer(can, device, peer);
        };
        return counted;
    }
};

TEST_CASE("after fork a child does not touch the driver", "[device]") {
    simulated_cuda machine{{.devices = 2}};
    auto opened = cuda_backend::try_open({.driver = counted_driver::over(machine)});
    REQUIRE(opened);
    auto& memory = *opened.backend;
    chunks_at run{memory, 1};
    run.map_and_open();
    const int before = counted_driver::calls;
    CHECK(before > 4);
    const child_end end = run_in_child([&] {
        int wrong = 0;
        wrong += memory.create(granule).code() == errc::no_device ? 0 : 1;
        wrong += memory.reserve(granule, bytes{0}).code() == errc::no_device ? 0 : 2;
        wrong += memory.unmap(run.start, run.size).code() == errc::no_device ? 0 : 4;
        wrong += memory.create_event().code() == errc::no_device ? 0 : 8;
        wrong += memory.can_reach(1) ? 16 : 0;
        opened.backend.reset(); // its destructor runs in the child as well
        wrong += counted_driver::calls == before ? 0 : 32;
        ::_exit(wrong);
    });
    CHECK(end.signal == 0);
    CHECK(end.code == 0);
    CHECK(mapped_bytes(machine, run.start, run.size) == run.size);
    run.take_down();
    opened.backend.reset();
    CHECK(counted_driver::calls > before);
    CHECK(to_string(machine.leaks()) == "nothing");
}

} // namespace
} // namespace vtensor::testing
