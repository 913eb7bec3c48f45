// SPDX-License-Identifier: Apache-2.0
// Two processes share chunks of a real GPU's memory, by the code that shares the host's. Whether the memory
// is there is the driver's word: how much of the device is free.
#include <support/device_main.hpp> // first: it is also Catch2's runner

#include "scene.hpp"
#include "shared_chunks.hpp"

#include <sharing/peer.hpp>
#include <support/proc_maps.hpp>

#include <vtensor/interop/receive_chunks.hpp>
#include <vtensor/interop/send_chunks.hpp>

#include <csignal>
#include <iostream>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// A peer that has its context, so that what is free from now on is about the shared memory alone.
struct ready_peer : peer {
    explicit ready_peer(const char* role) : peer{role} {
        REQUIRE(hear(socket) == 'r');
        before = gpu_free_memory();
    }
    [[nodiscard]] bool memory_is_taken() const {
        return eventually([&] { return gpu_free_memory() + bytes{gpu_shared_total.count() / 2} <= before; });
    }
    [[nodiscard]] bool memory_is_back() const {
        return eventually([&] { return gpu_free_memory() + bytes{gpu_shared_total.count() / 2} >= before; });
    }
    bytes before;
};

/// An exporter's side: chunks with pattern 1, sent to the peer.
struct exporter {
    explicit exporter(peer& other) {
        for (device_chunk& chunk : chunks)
            chunk = backend.create(gpu_shared_size).value();
        const gpu_shared_set mine{backend, chunks};
        mine.fill(stream, 1);
        REQUIRE(interop::send_chunks<cuda_backend>(other.socket, backend, chunks, gpu_shared_size, soon()));
    }
    void give_up() {
        for (const device_chunk chunk : chunks)
            REQUIRE(backend.destroy(chunk));
        CHECK(backend.physical_bytes() == 0_B);
    }
    gpu_stream stream;
    cuda_backend backend{sharing_options()};
    gpu_shared_chunks chunks;
};

} // namespace

TEST_CASE("two processes see the same memory of a device, which goes when both gave it up") {
    const bool exporter_first = GENERATE(true, false);
    const gpu_stream context;
    ready_peer other{"import"};
    exporter mine{other};
    CHECK(hear(other.socket) == 'w');
    {
        const gpu_shared_set seen{mine.backend, mine.chunks};
        CHECK(seen.holds(mine.stream, 2)); // what the other process wrote
    }
    if (exporter_first)
        mine.give_up();
    CHECK(other.memory_is_taken());
    REQUIRE(say(other.socket, 'g'));
    CHECK(hear(other.socket) == 'f');
    if (!exporter_first) {
        CHECK(other.memory_is_taken());
        const gpu_shared_set seen{mine.backend, mine.chunks};
        CHECK(seen.holds(mine.stream, 2));
    }
    if (!exporter_first)
        mine.give_up();
    CHECK(other.memory_is_back());
    CHECK(other.end() == 0);
}

TEST_CASE("an importer that is killed gives a device's memory up") {
    const gpu_stream context;
    ready_peer other{"import"};
    exporter mine{other};
    CHECK(hear(other.socket) == 'w');
    mine.give_up();
    CHECK(other.memory_is_taken());
    CHECK(other.kill() == 1000 + SIGKILL);
    CHECK(other.memory_is_back());
}

TEST_CASE("a device's memory outlives an exporter that is killed") {
    const gpu_stream stream;
    cuda_backend backend{sharing_options()};
    const std::size_t descriptors = open_descriptors();
    gpu_shared_chunks chunks;
    {
        ready_peer other{"export"};
        const auto count =
            interop::receive_chunks<cuda_backend>(other.socket, backend, chunks, gpu_shared_size, soon());
        REQUIRE(count);
        REQUIRE(*count == gpu_shared_count);
        CHECK(other.kill() == 1000 + SIGKILL);
    }
    {
        const gpu_shared_set seen{backend, chunks};
        CHECK(seen.holds(stream, 1));
    }
    for (const device_chunk chunk : chunks)
        REQUIRE(backend.destroy(chunk));
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a size that was not exported is refused, and nothing is left") {
    cuda_backend backend{sharing_options()};
    const device_chunk chunk = backend.create(gpu_shared_size).value();
    const std::size_t descriptors = open_descriptors();
    for (const bytes said : {bytes{gpu_shared_size.count() / 2}, gpu_shared_size * 2}) {
        auto handle = backend.export_chunk(chunk);
        REQUIRE(handle);
        CHECK(backend.import_chunk(*std::move(handle), said).code() == errc::size_mismatch);
    }
    CHECK(open_descriptors() == descriptors);
    CHECK(backend.physical_bytes() == gpu_shared_size);
    REQUIRE(backend.destroy(chunk));
}

int main(int count, char** arguments) {
    if (const auto opened = cuda_backend::try_open(sharing_options());
        opened && !opened.backend->can_export()) {
        std::cout << "skipped: chunks cannot be exported: " << opened.backend->report().descriptors.reason
                  << '\n';
        return skipped_exit_code;
    }
    return run_on_device<cuda_backend>(count, arguments);
}
