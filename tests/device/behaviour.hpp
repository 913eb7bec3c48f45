// SPDX-License-Identifier: Apache-2.0
//
// What a CUDA device does that the conformance suite does not ask: streams, retiring, sharing, contexts,
// running out, giving back. The same cases run on a real device and on a simulated one: `worlds` is a tuple
// of types that say which. Included once, by the file that defines it.
#pragma once

#include "scene.hpp"

#include <support/death.hpp>

#include <vtensor/backends/chunk_size.hpp>
#include <vtensor/backends/cuda.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cstddef>
#include <iostream>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace vtensor::testing {

TEMPLATE_LIST_TEST_CASE("device: what one address of a chunk is filled with, the other shows", "[device]",
                        worlds) {
    TestType world;
    const engine host{world.driver()};
    cuda_backend memory{world.options()};
    REQUIRE(memory.can_alias());
    const bytes size = 8 * memory.granularity();
    const mapped_chunk one{memory, size};
    const auto alias = memory.reserve(size, bytes{0});
    REQUIRE(ended(alias) == "ok");
    REQUIRE(ended(memory.map(*alias, one.chunk)) == "ok");
    REQUIRE(ended(memory.set_access(*alias, size, access_mode::read_write)) == "ok");
    std::vector<std::byte> seen(size.count());
    const auto event = memory.create_event();
    REQUIRE(ended(event) == "ok");
    for (const std::byte value : {std::byte{17}, std::byte{0}, std::byte{255}}) {
        CHECK(ended(memory.fill(one.where, value, size, host.stream())) == "ok");
        CHECK(ended(memory.copy(address{seen.data()}, *alias, size, host.stream())) == "ok");
        CHECK(ended(memory.record(*event, host.stream())) == "ok");
        CHECK(ended(memory.wait(*event)) == "ok");
        CHECK(memory.query(*event).value());
        CHECK(std::vector<std::byte>(size.count(), value) == seen);
    }
    CHECK(ended(memory.copy(one.where + bytes{1}, one.where, size - bytes{1}, host.stream())) ==
          ended(verb::copy, errc::invalid_argument)); // overlaps
    CHECK(ended(memory.record({}, host.stream())) == ended(verb::record, errc::invalid_argument));
    CHECK(ended(memory.destroy_event(*event)) == "ok");
    CHECK(ended(memory.unmap(*alias, size)) == "ok");
    CHECK(ended(memory.release(*alias, size)) == "ok");
}

TEMPLATE_LIST_TEST_CASE("device: a stream waits for an event of another", "[device]", worlds) {
    TestType world;
    const engine first{world.driver()};
    const engine second{world.driver()};
    cuda_backend memory{world.options()};
    const bytes size = 32 * memory.granularity();
    const mapped_chunk from{memory, size};
    const mapped_chunk to{memory, size};
    const auto event = memory.create_event();
    REQUIRE(ended(event) == "ok");
    for (unsigned round = 0; round < 20; ++round) { // each time the copy must not overtake the fill
        const auto value = static_cast<std::byte>(round + 1);
        CHECK(ended(memory.fill(from.where, value, size, first.stream())) == "ok");
        CHECK(ended(memory.record(*event, first.stream())) == "ok");
        CHECK(ended(memory.wait(second.stream(), *event)) == "ok");
        CHECK(ended(memory.copy(to.where, from.where, size, second.stream())) == "ok");
        CHECK(ended(memory.record(*event, second.stream())) == "ok");
        CHECK(ended(memory.wait(*event)) == "ok");
        CHECK(to.read(bytes{0}) == value);
        CHECK(to.read(size - bytes{1}) == value);
    }
    CHECK(ended(memory.destroy_event(*event)) == "ok");
}

TEMPLATE_LIST_TEST_CASE("device: rows that queued work still touches are given up behind it", "[device]",
                        worlds) {
    TestType world;
    const engine host{world.driver()};
    cuda_backend memory{world.options()};
    const bytes page = memory.granularity();
    chunk_pool<cuda_backend> pool{memory};
    virtual_tensor<std::byte, cuda_backend> tensor{pool, row_shape{page.count()}, 128};
    for (int round = 0; round < 10; ++round) {
        tensor.resize(64);
        const address start{tensor.data()};
        for (int work = 0; work < 8; ++work)
            CHECK(ended(memory.fill(start, std::byte{7}, 64 * page, host.stream())) == "ok");
        tensor.resize(4, host.stream()); // at once; the pages wait
        CHECK(tensor.rows() == 4);
        const auto event = memory.create_event();
        REQUIRE(ended(event) == "ok");
        CHECK(ended(memory.record(*event, host.stream())) == "ok");
        CHECK(ended(memory.wait(*event)) == "ok"); // fails where a fill met an unmapped page
        CHECK(ended(memory.destroy_event(*event)) == "ok");
        tensor.trim();
        CHECK(ended(pool.retiring().reclaim()) == "ok");
        CHECK(tensor.mapped_bytes() == 4 * page);
        CHECK(memory.mapped_bytes() == 4 * page);
    }
}

TEMPLATE_LIST_TEST_CASE("device: a growth that outgrows the device changes nothing, and a smaller one works",
                        "[device]", worlds) {
    TestType world;
    cuda_backend memory{world.options()};
    const bytes total = memory.report().memory;
    REQUIRE(total != bytes{0});
    const bytes page = round_up(bytes{total.count() / 16}, memory.granularity());
    chunk_pool<cuda_backend> pool{memory, {.chunk_size = page}};
    virtual_tensor<std::byte, cuda_backend> tensor{pool, row_shape{page.count()}, 64};
    tensor.resize(2);
    const auto refused = tensor.try_resize(40);
    CHECK(refused.code() == errc::out_of_memory);
    CHECK(tensor.rows() == 2);
    CHECK(tensor.mapped_bytes() == 2 * page);
    CHECK(memory.physical_bytes() == 2 * page);
    CHECK(tensor.verify());
    tensor.resize(3);
    CHECK(memory.mapped_bytes() == 3 * page);
}

TEMPLATE_LIST_TEST_CASE("device: what was taken is free again, over and over", "[device]", worlds) {
    TestType world;
    const engine host{world.driver()};
    {
        const cuda_backend warm{world.options()}; // what the driver keeps for good it has then
    }
    const bytes before = host.free_bytes();
    for (int round = 0; round < 20; ++round) {
        cuda_backend memory{world.options()};
        chunk_pool<cuda_backend> pool{memory};
        virtual_tensor<std::byte, cuda_backend> tensor{pool, row_shape{memory.granularity().count()}, 64};
        tensor.resize(48);
        tensor.resize(round % 2 == 0 ? 0 : 11);
    }
    const bytes after = host.free_bytes();
    CHECK(after + 32_MiB >= before); // a real driver keeps some memory for itself
}

TEMPLATE_LIST_TEST_CASE("device: a chunk is exported, imported and the same memory; what is wrong is refused",
                        "[device]", worlds) {
    TestType world;
    cuda_options options = world.options();
    options.sharing = sharing_wish::descriptor;
    cuda_backend sender{options};
    cuda_backend receiver{options};
    INFO(sender.describe());
    if (!sender.can_export()) {
        WARN("chunks cannot be exported here: " << sender.report().descriptors.reason);
        return;
    }
    const bytes unit = sender.granularity();
    const mapped_chunk sent{sender, 4 * unit};
    const auto exported = [&] { return sender.export_chunk(sent.chunk).value(); };
    {
        const mapped_chunk received{receiver, 4 * unit, receiver.import_chunk(exported(), 4 * unit)};
        const auto event = sender.create_event();
        REQUIRE(ended(event) == "ok");
        CHECK(ended(sender.fill(sent.where, std::byte{91}, 4 * unit, {})) == "ok");
        CHECK(ended(sender.record(*event, {})) == "ok");
        CHECK(ended(sender.wait(*event)) == "ok");
        CHECK(ended(sender.destroy_event(*event)) == "ok");
        CHECK(received.read(bytes{0}) == std::byte{91});
        CHECK(received.read(4 * unit - bytes{1}) == std::byte{91});
    }
    const auto refused = [&](os_handle handle, bytes size) {
        const auto outcome = receiver.import_chunk(std::move(handle), size);
        INFO("native code " << outcome.error().native);
        return ended(outcome);
    };
    constexpr verb what = verb::import_chunk;
    CHECK(refused(exported(), 3 * unit) == ended(what, errc::size_mismatch));
    CHECK(refused(exported(), 5 * unit) == ended(what, errc::size_mismatch));
    CHECK(refused(exported(), bytes{0}) == ended(what, errc::invalid_argument));
    CHECK(refused(exported(), unit + bytes{1}) == ended(what, errc::misaligned));
    CHECK(refused(os_handle{fabric_handle{}}, unit) == ended(what, errc::foreign_handle));
    CHECK(refused(file_descriptor{::open("/dev/null", O_RDWR | O_CLOEXEC)}, unit) ==
          ended(what, errc::foreign_handle));
    const int plain = ::memfd_create("none of a device", MFD_CLOEXEC);
    REQUIRE(::ftruncate(plain, static_cast<off_t>((4 * unit).count())) == 0);
    CHECK(refused(file_descriptor{plain}, 4 * unit) == ended(what, errc::foreign_handle));
    CHECK(receiver.physical_bytes() == bytes{0});
    CHECK(receiver.reserved_bytes() == bytes{0});
}

TEMPLATE_LIST_TEST_CASE("device: with the engine's context as with the primary one, on any thread",
                        "[device]", worlds) {
    TestType world;
    const engine host{world.driver()};
    cuda_options options = world.options();
    for (CUctx_st* const context : {static_cast<CUctx_st*>(nullptr), host.context()}) {
        options.context = context;
        cuda_backend memory{options};
        CUctx_st* const before = host.current();
        const auto use = [&] {
            const mapped_chunk one{memory, memory.granularity()};
            static_cast<void>(one.read(bytes{0}));
        };
        use();
        CHECK(host.current() == before);
        std::thread{use}.join();
        mapper thread;
        chunk_pool<cuda_backend, std::mutex> pool{memory};
        virtual_tensor<std::byte, cuda_backend, growth::look_ahead<4>, eviction::keep_all, std::mutex> tensor{
            pool, thread, row_shape{memory.granularity().count()}, 64};
        for (std::size_t rows = 1; rows <= 40; ++rows)
            tensor.resize(rows);
        CHECK(tensor.look_ahead_status().ok());
    }
}

TEMPLATE_LIST_TEST_CASE("device: a child of fork has none", "[device]", worlds) {
    TestType world;
    cuda_backend memory{world.options()};
    const mapped_chunk one{memory, memory.granularity()};
    const child_end end = run_in_child([&] {
        const bool refused = memory.create(memory.granularity()).code() == errc::no_device &&
                             memory.unmap(one.where, one.size).code() == errc::no_device;
        ::_exit(refused ? 0 : 1);
    });
    CHECK(end.signal == 0);
    CHECK(end.code == 0);
    static_cast<void>(one.read(bytes{0})); // and the parent goes on
}

TEMPLATE_LIST_TEST_CASE("device: the price of the verbs can be measured, and a chunk size chosen", "[device]",
                        worlds) {
    TestType world;
    cuda_backend memory{world.options()};
    for (const bytes size : {2_MiB, 16_MiB, 64_MiB}) {
        const auto cost = measure_chunk_cost(memory, size);
        REQUIRE(ended(cost) == "ok");
        std::cout << to_string(size) << ": create " << cost->create.count() << " ns, map "
                  << cost->map.count() << ", set_access " << cost->set_access.count() << ", unmap "
                  << cost->unmap.count() << ", destroy " << cost->destroy.count() << '\n';
    }
    const auto chosen = probe_chunk_size(memory, 1_GiB);
    REQUIRE(ended(chosen) == "ok");
    std::cout << "for tensors of 1 GiB: " << to_string(*chosen) << '\n';
    CHECK(memory.physical_bytes() == bytes{0});
    CHECK(memory.reserved_bytes() == bytes{0});
}

} // namespace vtensor::testing
