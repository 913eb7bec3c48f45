// SPDX-License-Identifier: Apache-2.0
#include "fake_device.hpp"

#include <support/catch.hpp>
#include <support/kernel_figures.hpp>

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/adaptors/limiting.hpp>
#include <vtensor/backends/host.hpp>

#include <atomic>
#include <thread>
#include <vector>

namespace vtensor::testing {
namespace {

TEST_CASE("limiting refuses what does not fit into the budget and leaves the rest to the backend") {
    host_backend host;
    adaptors::limiting limited{host, 10 * 4_KiB};
    const auto first = limited.create(8 * 4_KiB);
    REQUIRE(first.ok());
    CHECK(limited.used() == 32_KiB);
    const auto second = limited.create(3 * 4_KiB);
    CHECK(second.error() == error{errc::limit_exceeded, verb::create, 0, 12_KiB});
    CHECK(limited.used() == 32_KiB);
    CHECK(kernel_memory_file_bytes() == 32_KiB);
    CHECK(limited.create(8_KiB).ok()); // just fits
    CHECK(limited.used() == limited.budget());
    CHECK(limited.create(4_KiB).code() == errc::limit_exceeded);
    CHECK(limited.create(0_B).code() == errc::invalid_argument); // the backend's own refusals come first
    CHECK(limited.create(41_KiB).code() == errc::misaligned);
    CHECK(limited.destroy(*first).ok());
    CHECK(limited.used() == 8_KiB);
    CHECK(limited.high_watermark() == 40_KiB);
}

TEST_CASE("limiting counts a destroyed chunk until its last mapping is gone, as the kernel does") {
    host_backend host;
    adaptors::limiting limited{host, 64_KiB};
    const address where = limited.reserve(64_KiB, 0_B).value();
    const auto chunk = *limited.create(8_KiB);
    const auto check = [&](bytes expected) {
        CHECK(limited.used() == expected);
        CHECK(kernel_memory_file_bytes() == expected);
    };
    REQUIRE(limited.map(where, chunk).ok());
    REQUIRE(limited.map(where + 8_KiB, chunk).ok());
    REQUIRE(limited.map(where + 32_KiB, chunk).ok());
    CHECK_FALSE(limited.map(where, chunk).ok()); // refused: counts for nothing
    CHECK_FALSE(limited.map(where + 60_KiB, chunk).ok());
    check(8_KiB);
    CHECK(limited.destroy(chunk).ok());
    check(8_KiB);
    CHECK_FALSE(limited.unmap(where, 4_KiB).ok()); // refused: the mapping still holds it
    CHECK(limited.unmap(where, 16_KiB).ok());      // two of the three
    check(8_KiB);
    CHECK(limited.unmap(where + 32_KiB, 8_KiB).ok());
    check(0_B);
}

TEST_CASE("limiting keeps a mapped chunk's bytes when it is unmapped but not destroyed") {
    host_backend host;
    adaptors::limiting limited{host, 8_KiB};
    const address where = limited.reserve(64_KiB, 0_B).value();
    const auto chunk = *limited.create(8_KiB);
    REQUIRE(limited.map(where, chunk).ok());
    REQUIRE(limited.unmap(where, 8_KiB).ok());
    CHECK(limited.used() == 8_KiB);
    CHECK(limited.create(4_KiB).code() == errc::limit_exceeded);
    CHECK(limited.destroy(chunk).ok());
    CHECK(limited.destroy(chunk).code() == errc::unknown_chunk);
    CHECK(limited.used() == 0_B);
}

TEST_CASE("the budget of limiting changes while it runs, also to below what is used") {
    host_backend host;
    adaptors::limiting limited{host, 16_KiB};
    const auto chunk = *limited.create(16_KiB);
    limited.set_budget(8_KiB);
    CHECK(limited.budget() == 8_KiB);
    CHECK(limited.used() == 16_KiB);
    CHECK(limited.create(4_KiB).code() == errc::limit_exceeded);
    limited.set_budget(20_KiB);
    CHECK(limited.create(4_KiB).ok());
    limited.set_budget(0_B);
    CHECK(limited.destroy(chunk).ok());
    CHECK(limited.create(4_KiB).code() == errc::limit_exceeded);
}

TEST_CASE("limiting does not count what the backend failed to create, destroy, map or unmap") {
    host_backend host;
    adaptors::failing broken{host};
    adaptors::limiting limited{broken, 1_MiB};
    const address where = limited.reserve(64_KiB, 0_B).value();
    const auto chunk = *limited.create(8_KiB);

    broken.fail_from(1);
    CHECK_FALSE(limited.create(8_KiB).ok());
    CHECK_FALSE(limited.map(where, chunk).ok());
    CHECK_FALSE(limited.destroy(chunk).ok());
    CHECK(limited.used() == 8_KiB);
    broken.disarm();
    REQUIRE(limited.map(where, chunk).ok());
    REQUIRE(limited.destroy(chunk).ok());
    broken.fail_from(1);
    CHECK_FALSE(limited.unmap(where, 8_KiB).ok());
    CHECK(limited.used() == 8_KiB);
    broken.disarm();
    CHECK(limited.unmap(where, 8_KiB).ok());
    CHECK(limited.used() == 0_B);
}

TEST_CASE("limiting does not count imported chunks") {
    fake_device device;
    adaptors::limiting limited{device, 64_KiB};
    const auto chunk = limited.import_chunk(fake_handle{std::make_unique<int>(1)}, 1_MiB);
    REQUIRE(chunk.ok());
    CHECK(limited.map(address{std::uintptr_t{4096}}, *chunk).ok());
    CHECK(limited.destroy(*chunk).ok());
    CHECK(limited.used() == 0_B);
    CHECK(limited.create(64_KiB).ok());
}

TEST_CASE("threads together never create more than the budget of limiting") {
    host_backend host;
    adaptors::limiting limited{host, 16_KiB};
    std::atomic<int> overruns{0};
    std::atomic<int> created{0};
    std::vector<std::thread> running;
    for (int index = 0; index < 4; ++index) {
        running.emplace_back([&] {
            for (int round = 0; round < 300; ++round) {
                const auto chunk = limited.create(8_KiB);
                overruns += host.physical_bytes() > 16_KiB ? 1 : 0;
                if (chunk) {
                    ++created;
                    static_cast<void>(limited.destroy(*chunk));
                }
            }
        });
    }
    for (std::thread& thread : running)
        thread.join();
    CHECK(overruns == 0);
    CHECK(created > 0);
    CHECK(limited.used() == 0_B);
    CHECK(limited.high_watermark() <= 16_KiB);
}

} // namespace
} // namespace vtensor::testing
