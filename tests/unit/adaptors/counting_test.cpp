// SPDX-License-Identifier: Apache-2.0
#include "fake_device.hpp"

#include <support/catch.hpp>

#include <vtensor/adaptors/counting.hpp>

#include <thread>
#include <vector>

namespace vtensor::testing {
namespace {

const address somewhere{std::uintptr_t{4096}};

TEST_CASE("counting counts calls, failures and the bytes of what succeeded, each verb for itself") {
    fake_device device;
    adaptors::counting counted{device};
    const auto small = *counted.create(64_KiB);
    const auto large = *counted.create(192_KiB);
    CHECK(counted.map(somewhere, small).ok());
    CHECK(counted.map(somewhere, large).ok());
    CHECK(counted.map(somewhere, large).ok());
    CHECK(counted.set_access(somewhere, 256_KiB, access_mode::read).ok());
    CHECK(counted.destroy(large).ok());
    device.break_down(error{errc::out_of_memory, verb::create, 0, 0_B});
    CHECK_FALSE(counted.create(1_MiB).ok());
    CHECK_FALSE(counted.unmap(somewhere, 1_MiB).ok());

    const adaptors::call_counts counts = counted.snapshot();
    CHECK(counts[verb::create] == adaptors::verb_counts{3, 1, 256_KiB});
    CHECK(counts[verb::map] == adaptors::verb_counts{3, 0, 448_KiB});
    CHECK(counts[verb::set_access] == adaptors::verb_counts{1, 0, 256_KiB});
    CHECK(counts[verb::destroy] == adaptors::verb_counts{1, 0, 192_KiB});
    CHECK(counts[verb::unmap] == adaptors::verb_counts{1, 1, 0_B});
    CHECK(counts[verb::reserve] == adaptors::verb_counts{});
    CHECK(counts.calls() == 9);
}

TEST_CASE("counting forgets the size of a chunk that is destroyed") {
    fake_device device;
    adaptors::counting counted{device};
    const auto chunk = *counted.create(64_KiB);
    CHECK(counted.destroy(chunk).ok());
    CHECK(counted.map(somewhere, chunk).ok()); // this device takes anything
    CHECK(counted.snapshot()[verb::map] == adaptors::verb_counts{1, 0, 0_B});
}

TEST_CASE("counting knows the size of an imported chunk") {
    fake_device device;
    adaptors::counting counted{device};
    const auto chunk = *counted.import_chunk(fake_handle{std::make_unique<int>(1)}, 128_KiB);
    CHECK(counted.map(somewhere, chunk).ok());
    CHECK(counted.snapshot()[verb::map].size == 128_KiB);
}

TEST_CASE("counting starts again from zero when it is reset, and queries are no calls") {
    fake_device device;
    adaptors::counting counted{device};
    static_cast<void>(counted.create(64_KiB));
    counted.reset();
    static_cast<void>(counted.granularity());
    static_cast<void>(counted.can_alias());
    static_cast<void>(counted.can_export());
    static_cast<void>(counted.can_reach(1));
    CHECK(counted.snapshot() == adaptors::call_counts{});
}

TEST_CASE("counting loses no call of several threads") {
    fake_device device;
    adaptors::counting counted{device};
    constexpr std::size_t threads = 4;
    constexpr std::size_t rounds = 500;
    std::vector<std::thread> running;
    for (std::size_t index = 0; index < threads; ++index) {
        running.emplace_back([&] {
            for (std::size_t round = 0; round < rounds; ++round) {
                const auto chunk = counted.create(64_KiB);
                static_cast<void>(counted.map(somewhere, *chunk));
                static_cast<void>(counted.destroy(*chunk));
            }
        });
    }
    for (std::thread& thread : running)
        thread.join();
    const adaptors::call_counts counts = counted.snapshot();
    for (const verb what : {verb::create, verb::map, verb::destroy})
        CHECK(counts[what] == adaptors::verb_counts{threads * rounds, 0, threads * rounds * 64_KiB});
}

} // namespace
} // namespace vtensor::testing
