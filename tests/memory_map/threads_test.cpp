// SPDX-License-Identifier: Apache-2.0
//
// The recorder keeps what comes from several threads.
#include "recorded.hpp"

#include <support/catch.hpp>

#include <thread>
#include <vector>

namespace memory_map::testing {
namespace {

using namespace vtensor;

TEST_CASE("the recorder keeps every call of several threads, and the marks between them") {
    host_backend memory;
    recorder notes;
    traced_host traced{memory, notes};
    std::vector<std::thread> running;
    for (int index = 0; index < 4; ++index) {
        running.emplace_back([&] {
            for (int round = 0; round < 100; ++round) {
                const auto where = traced.reserve(4_KiB, 0_B);
                notes.name(*where, "a thread's");
                static_cast<void>(traced.release(*where, 4_KiB));
                notes.say("again", "");
            }
        });
    }
    for (std::thread& each : running)
        each.join();
    CHECK(notes.entries().size() == 4 * 100 * 4);
    CHECK(notes.dropped() == 0);
}

} // namespace
} // namespace memory_map::testing
