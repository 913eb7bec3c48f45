// SPDX-License-Identifier: Apache-2.0
// Device backends without memory of the process's own: each allocation of each verb that takes something
// fails once, in the backend or in the simulated driver, which then says so. The verb fails with
// out_of_memory and nothing has changed.
#include "machines.hpp"

#include <support/failing_new.hpp>

#include <cstddef>
#include <optional>
#include <string>

namespace vtensor::testing {
namespace {

TEST_CASE("a verb of a device backend without memory for its book-keeping fails and changes nothing",
          "[device]") {
    simulated_cuda machine{{.devices = 2}};
    cuda_backend memory{{.driver = machine.driver()}};
    std::size_t failed = 0;
    const auto each = [&](auto verb_call) {
        const std::string before = to_string(machine.leaks());
        const bytes reserved = memory.reserved_bytes();
        const bytes mapped = memory.mapped_bytes();
        const bytes physical = memory.physical_bytes();
        for (std::size_t k = 1;; ++k) {
            failing_new::fail(k);
            auto outcome = verb_call();
            if (failing_new::disarm() == 0) {
                REQUIRE(ended(outcome) == "ok");
                return outcome;
            }
            ++failed;
            INFO("allocation " << k << " failed: " << ended(outcome));
            if (outcome.ok())
                return outcome; // what failed was not needed: an undo, a second try
            REQUIRE(outcome.code() == errc::out_of_memory);
            REQUIRE(to_string(machine.leaks()) == before);
            REQUIRE(memory.reserved_bytes() == reserved);
            REQUIRE(memory.mapped_bytes() == mapped);
            REQUIRE(memory.physical_bytes() == physical);
        }
    };
    const auto where = each([&] { return memory.reserve(16_MiB, 4_MiB); });
    const auto chunk = each([&] { return memory.create(granule); });
    const auto other = each([&] { return memory.create(granule); });
    CHECK(failed > 2);
    failed = 0;
    CHECK(each([&] { return memory.map(*where, *chunk); }).ok());
    CHECK(each([&] { return memory.map(*where + granule, *other); }).ok());
    CHECK(each([&] { return memory.set_access(*where, 2 * granule, access_mode::read_write); }).ok());
    CHECK(each([&] { return memory.set_peer_access(*where, 2 * granule, access_mode::read, 1); }).ok());
    CHECK(failed > 2);
    CHECK(open_bytes(machine, *where, 2 * granule) == 2 * granule);
    CHECK(ended(memory.unmap(*where, 2 * granule)) == "ok");
    CHECK(ended(memory.destroy(*chunk)) == "ok");
    CHECK(ended(memory.destroy(*other)) == "ok");
    CHECK(ended(memory.release(*where, 16_MiB)) == "ok");
}

TEST_CASE("opening a device without memory for it is out_of_memory and leaves nothing", "[device]") {
    simulated_cuda machine;
    cuda_options options{.sharing = sharing_wish::descriptor, .driver = machine.driver()};
    std::size_t failed = 0;
    for (std::size_t k = 1;; ++k) {
        failing_new::fail(k);
        auto opened = std::optional{cuda_backend::try_open(options)};
        const std::size_t failures = failing_new::disarm();
        INFO("allocation " << k << " failed: " << opened->reason);
        CHECK((opened->backend != nullptr || opened->failure.code != errc::ok));
        opened.reset();
        CHECK(to_string(machine.leaks()) == "nothing");
        if (failures == 0)
            break;
        ++failed;
    }
    CHECK(failed > 10);
}

} // namespace
} // namespace vtensor::testing
