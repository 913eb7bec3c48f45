// SPDX-License-Identifier: Apache-2.0
// What CUDA's virtual memory demands of those who use it at the same time: queued work, registrations made
// elsewhere, contexts, threads and children.
#include "cuda_case.hpp"

#include <support/death.hpp>

#include <vtensor/virtual_tensor.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include <unistd.h>

namespace vtensor::testing {
namespace {

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

/// Creating memory takes until it is let go.
struct slow_creation {
    static inline cuda_driver real;
    static inline std::atomic<bool> slow{false};
    static inline std::atomic<bool> begun{false};
    static inline std::atomic<bool> go_on{false};

    static cuda_driver over(const simulated_cuda& machine) {
        real = machine.driver();
        cuda_driver made = real;
        made.mem_create = [](unsigned long long* memory, std::size_t size,
                             const cuda::abi::allocation_prop* wanted, unsigned long long flags) {
            begun = slow.load();
            while (slow && !go_on)
                std::this_thread::yield();
            return real.mem_create(memory, size, wanted, flags);
        };
        return made;
    }
};

TEST_CASE("a child that is forked while another thread is in the middle of a call does not wait for it",
          "[device]") {
    simulated_cuda machine;
    {
        cuda_backend memory{{.sharing = sharing_wish::descriptor, .driver = slow_creation::over(machine)}};
        chunks_at run{memory, 1};
        run.map_and_open();
        slow_creation::slow = true;
        std::thread creating{[&] {
            const auto chunk = memory.create(granule);
            if (chunk)
                static_cast<void>(memory.destroy(*chunk));
        }};
        while (!slow_creation::begun)
            std::this_thread::yield();
        const child_end end = run_in_child([&] {
            ::alarm(10); // a child that waits is killed
            const auto none = [](const auto& outcome, int bit) {
                return outcome.code() == errc::no_device ? 0 : bit;
            };
            ::_exit(none(memory.create(granule), 1) | none(memory.destroy(run.chunks[0]), 2) |
                    none(memory.map(run.at(1), run.chunks[0]), 4) |
                    none(memory.set_access(run.start, run.size, access_mode::none), 8) |
                    none(memory.unmap(run.start, run.size), 16) |
                    none(memory.release(run.start, 2 * run.size), 32) |
                    none(memory.export_chunk(run.chunks[0]), 64) | none(memory.epoch(run.start), 128));
        });
        slow_creation::go_on = true;
        creating.join();
        slow_creation::slow = false;
        CHECK(end.signal == 0);
        CHECK(end.code == 0);
        run.take_down();
    }
    CHECK(to_string(machine.leaks()) == "nothing");
}

} // namespace
} // namespace vtensor::testing
