// SPDX-License-Identifier: Apache-2.0
//
// Two processes share chunks of host memory. Whether the memory is there is the kernel's word: each process's
// descriptors and mappings, and how much shared memory the whole machine has.
#include "peer.hpp"
#include "shared_set.hpp"
#include "support/catch.hpp"
#include "support/kernel_figures.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/interop/receive_chunks.hpp>
#include <vtensor/interop/send_chunks.hpp>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// All shared memory of the machine, as the kernel counts it.
bytes machine_shared_memory() {
    std::ifstream file{"/proc/meminfo"};
    std::string word;
    while (file >> word && word != "Shmem:") {
    }
    std::size_t kib = 0;
    REQUIRE(file >> kib);
    return bytes{kib} * 1024;
}

/// Whether it becomes so. Other processes of the machine come and go; ours are 64 MiB, the tolerance is 16.
template <class Condition>
bool eventually(Condition condition) {
    using namespace std::chrono;
    for (const auto end = steady_clock::now() + 10s; steady_clock::now() < end;
         std::this_thread::sleep_for(5ms)) {
        if (condition())
            return true;
    }
    return condition();
}
bool memory_is_there(bytes before) {
    return eventually([&] { return machine_shared_memory() >= before + (shared_total - 16_MiB); });
}
bool memory_is_gone(bytes before) {
    return eventually([&] { return machine_shared_memory() <= before + 16_MiB; });
}

/// An exporter's side: chunks with pattern 1, sent to the peer.
struct exporter {
    explicit exporter(peer& other) {
        for (host_chunk& chunk : chunks)
            chunk = backend.create(shared_size).value();
        shared_set mine{backend, chunks};
        mine.fill(1);
        REQUIRE(interop::send_chunks<host_backend>(other.socket, backend, chunks, shared_size, soon()));
    }
    void give_up() {
        for (const host_chunk chunk : chunks)
            REQUIRE(backend.destroy(chunk));
        CHECK(backend.physical_bytes() == 0_B);
        CHECK(kernel_memory_file_bytes() == 0_B);
        CHECK(memory_file_lines() == 0);
    }
    host_backend backend{{.exportable = true}};
    shared_chunks chunks;
};

} // namespace

TEST_CASE("two processes see the same memory, which goes when both gave it up, the exporter first") {
    const bytes before = machine_shared_memory();
    peer other{"import"};
    exporter mine{other};
    CHECK(hear(other.socket) == 'w');
    {
        const shared_set seen{mine.backend, mine.chunks};
        CHECK(seen.holds(2)); // what the other process wrote
    }
    CHECK(mine.backend.kernel_physical_bytes() == shared_total);
    mine.give_up();
    CHECK(memory_is_there(before)); // the importer still has it
    REQUIRE(say(other.socket, 'g'));
    CHECK(hear(other.socket) == 'f');
    CHECK(memory_is_gone(before)); // while both processes still run
    CHECK(other.end() == 0);
}

TEST_CASE("two processes see the same memory, which goes when both gave it up, the importer first") {
    const bytes before = machine_shared_memory();
    peer other{"import"};
    exporter mine{other};
    CHECK(hear(other.socket) == 'w');
    REQUIRE(say(other.socket, 'g'));
    CHECK(hear(other.socket) == 'f');
    CHECK(memory_is_there(before)); // the exporter still has it
    {
        const shared_set seen{mine.backend, mine.chunks};
        CHECK(seen.holds(2));
    }
    mine.give_up();
    CHECK(memory_is_gone(before));
    CHECK(other.end() == 0);
}

TEST_CASE("an importer that is killed gives everything up") {
    const bytes before = machine_shared_memory();
    peer other{"import"};
    exporter mine{other};
    CHECK(hear(other.socket) == 'w');
    mine.give_up();
    CHECK(memory_is_there(before));
    CHECK(other.kill() == 1000 + SIGKILL);
    CHECK(memory_is_gone(before));
    CHECK(interop::send_chunks<host_backend>(other.socket, mine.backend,
                                             std::vector{mine.backend.create(shared_size).value()},
                                             shared_size, soon())
              .code() == errc::disconnected);
}

TEST_CASE("chunks that were sent and never received go with the connection") {
    const bytes before = machine_shared_memory();
    {
        auto ends = unix_socket::pair();
        REQUIRE(ends);
        host_backend backend{{.exportable = true}};
        const std::vector chunks{backend.create(shared_total).value()};
        REQUIRE(interop::send_chunks<host_backend>(ends->first, backend, chunks, shared_total, soon()));
        REQUIRE(backend.destroy(chunks[0]));
        CHECK(memory_is_there(before)); // under way
    }
    CHECK(memory_is_gone(before));
}

TEST_CASE("memory outlives an exporter that is killed") {
    const bytes before = machine_shared_memory();
    {
        peer other{"export"};
        host_backend backend;
        shared_chunks chunks;
        REQUIRE(
            interop::receive_chunks<host_backend>(other.socket, backend, chunks, shared_size, soon()).ok());
        shared_set seen{backend, chunks};
        CHECK(other.kill() == 1000 + SIGKILL);
        CHECK(seen.holds(1));
        seen.fill(3);
        CHECK(seen.holds(3));
        CHECK(memory_is_there(before));
    } // the chunks go with the backend
    CHECK(memory_is_gone(before));
}

TEST_CASE("an exporter can spoil what it shared, and nothing else") {
    peer other{"harm"};
    host_backend backend;
    shared_chunks chunks;
    REQUIRE(interop::receive_chunks<host_backend>(other.socket, backend, chunks, shared_size, soon()).ok());
    shared_set seen{backend, chunks};
    CHECK(seen.holds(1));
    REQUIRE(say(other.socket, 'g'));
    CHECK(hear(other.socket) == 'h');
    CHECK(seen.empty()); // gone, but no bus error
    seen.fill(3);
    CHECK(seen.holds(3));
    CHECK(other.end() == 0);
}
