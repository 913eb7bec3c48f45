// SPDX-License-Identifier: Apache-2.0
//
// Two processes share chunks of host memory. Whether the memory is there is the kernel's word: each process's
// descriptors and mappings, and how the shared memory of the whole machine changes.
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
    file >> kib;
    return bytes{kib} * 1024;
}

/// How the machine's shared memory changes from one step of a scenario to the next. Other processes come and
/// go, so a step is short, what is shared is large, and a quarter of it is tolerated.
class memory_watch {
  public:
    enum class change { rises, stays, falls };

    /// Whether the memory of the chunks was taken, kept or given back since the last step.
    void step(change expected) {
        using namespace std::chrono;
        bool seen = false;
        for (const auto end = steady_clock::now() + 500ms; !seen && steady_clock::now() < end;
             std::this_thread::sleep_for(2ms)) {
            const bytes now = machine_shared_memory();
            const bool rose = now >= last_ + (shared_total - tolerated);
            const bool fell = now + (shared_total - tolerated) <= last_;
            const bool same = now + tolerated >= last_ && now <= last_ + tolerated;
            seen = expected == change::rises ? rose : expected == change::falls ? fell : same;
        }
        as_expected_ = as_expected_ && seen;
        last_ = machine_shared_memory();
    }
    /// What happens before the first step, or between two that matter, is left out.
    void restart() { last_ = machine_shared_memory(); }

    [[nodiscard]] bool as_expected() const { return as_expected_; }

  private:
    static constexpr bytes tolerated{shared_total.count() / 4};

    bytes last_ = machine_shared_memory();
    bool as_expected_ = true;
};
using change = memory_watch::change;

/// Runs a scenario, once more and again where the machine's memory did not change as it must: others may have
/// disturbed it, but not three times.
template <class Scenario>
void watch_memory(Scenario scenario) {
    bool as_expected = false;
    for (int attempt = 0; attempt < 3 && !as_expected; ++attempt) {
        memory_watch watch;
        scenario(watch);
        as_expected = watch.as_expected();
    }
    CHECK(as_expected);
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
    watch_memory([](memory_watch& memory) {
        peer other{"import"};
        memory.restart();
        exporter mine{other};
        CHECK(hear(other.socket) == 'w');
        memory.step(change::rises);
        {
            const shared_set seen{mine.backend, mine.chunks};
            CHECK(seen.holds(2)); // what the other process wrote
        }
        CHECK(mine.backend.kernel_physical_bytes() == shared_total);
        memory.restart();
        mine.give_up();
        memory.step(change::stays); // the importer still has it
        REQUIRE(say(other.socket, 'g'));
        CHECK(hear(other.socket) == 'f');
        memory.step(change::falls); // while both processes still run
        CHECK(other.end() == 0);
    });
}

TEST_CASE("two processes see the same memory, which goes when both gave it up, the importer first") {
    watch_memory([](memory_watch& memory) {
        peer other{"import"};
        exporter mine{other};
        CHECK(hear(other.socket) == 'w');
        memory.restart();
        REQUIRE(say(other.socket, 'g'));
        CHECK(hear(other.socket) == 'f');
        memory.step(change::stays); // the exporter still has it
        {
            const shared_set seen{mine.backend, mine.chunks};
            CHECK(seen.holds(2));
        }
        memory.restart();
        mine.give_up();
        memory.step(change::falls);
        CHECK(other.end() == 0);
    });
}

TEST_CASE("an importer that is killed gives everything up") {
    watch_memory([](memory_watch& memory) {
        peer other{"import"};
        exporter mine{other};
        CHECK(hear(other.socket) == 'w');
        memory.restart();
        mine.give_up();
        memory.step(change::stays);
        CHECK(other.kill() == 1000 + SIGKILL);
        memory.step(change::falls);
        const std::vector another{mine.backend.create(shared_size).value()};
        CHECK(interop::send_chunks<host_backend>(other.socket, mine.backend, another, shared_size, soon())
                  .code() == errc::disconnected);
    });
}

TEST_CASE("chunks that were sent and never received go with the connection") {
    watch_memory([](memory_watch& memory) {
        {
            auto ends = unix_socket::pair();
            REQUIRE(ends);
            host_backend backend{{.exportable = true}};
            memory.restart();
            const std::vector chunks{backend.create(shared_total).value()};
            REQUIRE(interop::send_chunks<host_backend>(ends->first, backend, chunks, shared_total, soon()));
            memory.step(change::rises);
            REQUIRE(backend.destroy(chunks[0]));
            memory.step(change::stays); // under way
        }
        memory.step(change::falls);
    });
}

TEST_CASE("memory outlives an exporter that is killed") {
    watch_memory([](memory_watch& memory) {
        {
            peer other{"export"};
            host_backend backend;
            shared_chunks chunks;
            REQUIRE(interop::receive_chunks<host_backend>(other.socket, backend, chunks, shared_size, soon())
                        .ok());
            shared_set seen{backend, chunks};
            memory.restart();
            CHECK(other.kill() == 1000 + SIGKILL);
            memory.step(change::stays);
            CHECK(seen.holds(1));
            seen.fill(3);
            CHECK(seen.holds(3));
            memory.restart();
        } // the chunks go with the backend
        memory.step(change::falls);
    });
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
