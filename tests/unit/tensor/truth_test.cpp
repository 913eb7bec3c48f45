// SPDX-License-Identifier: Apache-2.0
//
// The truth of memory: after each operation the library's figures are the kernel's own, a page that is not
// mapped faults, and nothing is left after destruction. The kernel speaks through /proc/self/maps, the block
// count of the memory file and the signal of a child process.
#include "support/catch.hpp"
#include "support/death.hpp"
#include "support/kernel_figures.hpp"
#include "support/proc_maps.hpp"
#include "support/sanitizers.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cstdlib>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

using pool_type = chunk_pool<host_backend, std::mutex>;
template <class Growth>
using tensor_of = virtual_tensor<float, host_backend, Growth, eviction::keep_all, std::mutex>;

constexpr std::size_t row_floats = 320; // 1,280 bytes: rows cross pages

template <class Growth>
tensor_of<Growth> make(pool_type& pool, mapper& thread, std::size_t max_rows) {
    if constexpr (look_ahead_policy<Growth>)
        return tensor_of<Growth>{pool, thread, {row_floats}, max_rows};
    else
        return tensor_of<Growth>{pool, {row_floats}, max_rows};
}

/// Every figure the library gives, against the kernel's. The mapper thread must be at rest.
template <class Growth>
void check_truth(const tensor_of<Growth>& held, const pool_type& pool) {
    const range_figures kernel = kernel_range(address{held.data()}, held.reserved_bytes());
    const tensor_stats stats = held.stats();
    CHECK(stats.mapped == kernel.memory_file);
    CHECK(stats.mapped == kernel.accessible);
    CHECK(stats.reserved == kernel.covered());
    CHECK(stats.used <= kernel.accessible);
    CHECK(held.verify());

    const host_backend& backend = pool.backend();
    CHECK(pool.stats().created == backend.kernel_physical_bytes());
    CHECK(pool.stats().created == kernel_memory_file_bytes());
    CHECK(pool.stats().in_use == backend.mapped_bytes());
}

} // namespace

TEMPLATE_TEST_CASE("after each operation of a tensor's life its figures are the kernel's", "", growth::exact,
                   growth::fixed<4>, (growth::geometric<3, 2>), growth::look_ahead<3>) {
    for (const bytes chunk : {4_KiB, 12_KiB, 64_KiB}) {
        host_backend backend;
        pool_type pool{backend, {.chunk_size = chunk}};
        mapper thread;
        auto held = make<TestType>(pool, thread, 2000);
        const auto check = [&] {
            thread.drain();
            check_truth(held, pool);
        };
        check();
        held.append(1);
        check();
        for (int token = 0; token < 40; ++token) {
            const auto fresh = held.append(7);
            fresh(6, row_floats - 1) = 1.0f;
            check();
        }
        held.prepare(700);
        check();
        held.trim();
        check();
        held.resize(1999);
        check();
        CHECK_FALSE(held.try_resize(2001));
        check();
        held.resize(1200);
        check();
        auto moved = std::move(held);
        held = std::move(moved);
        check();
        held.resize(3);
        check();
        CHECK(pool.trim(2));
        check();
        CHECK(pool.prefill(5));
        check();
        CHECK(pool.resize_limit(pool.stats().in_use + chunk));
        check();
        CHECK_FALSE(held.try_resize(2000));
        check();
        CHECK(pool.resize_limit(0_B));
        held.resize(0);
        check();
        held.trim();
        check();
        CHECK(pool.trim());
        check();
        CHECK(pool.stats().created == 0_B);
    }
}

TEST_CASE("after each of many random operations on three tensors the figures are the kernel's") {
    host_backend backend;
    pool_type pool{backend, {.limit = 200 * 4_KiB}};
    mapper thread;
    auto first = make<growth::exact>(pool, thread, 300);
    auto second = make<growth::geometric<2, 1>>(pool, thread, 300);
    auto third = make<growth::look_ahead<4>>(pool, thread, 300);
    const char* const text = std::getenv("VTENSOR_TEST_SEED");
    const std::uint64_t seed = text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
    CAPTURE(seed);
    std::mt19937_64 random{seed};

    const auto touch = [&](auto& held) {
        const std::size_t rows = random() % 301;
        switch (random() % 4) {
        case 0:
            static_cast<void>(held.try_append(random() % 12));
            break;
        case 1:
            static_cast<void>(held.try_prepare(rows));
            break;
        case 2:
            CHECK(held.try_trim());
            break;
        default:
            static_cast<void>(held.try_resize(rows));
        }
        if (held.rows() != 0)
            held.view()(held.rows() - 1, row_floats - 1) = 1.0f;
    };
    const int steps = any_sanitizer ? 300 : 3000;
    for (int step = 0; step < steps; ++step) {
        const std::size_t chosen = random() % 4;
        if (chosen == 0)
            touch(first);
        else if (chosen == 1)
            touch(second);
        else if (chosen == 2)
            touch(third);
        else
            CHECK(pool.trim(random() % 40));
        thread.drain();
        check_truth(first, pool);
        check_truth(second, pool);
        check_truth(third, pool);
        CHECK(pool.stats().in_use == first.mapped_bytes() + second.mapped_bytes() + third.mapped_bytes());
    }
}

TEST_CASE("touching a page that is reserved and not mapped faults, and every mapped one can be touched") {
    host_backend backend;
    pool_type pool{backend};
    mapper thread;
    auto held = make<growth::exact>(pool, thread, 1000);
    std::byte* const start = reinterpret_cast<std::byte*>(held.data());
    const std::size_t page = 4096;

    CHECK(reading_faults(start));
    held.resize(8); // 10,240 bytes: three pages
    CHECK_FALSE(writing_faults(start));
    CHECK_FALSE(writing_faults(start + 3 * page - 1));
    CHECK(reading_faults(start + 3 * page));
    CHECK(writing_faults(start + held.reserved_bytes().count() - 1));
    held.resize(1000);
    CHECK_FALSE(writing_faults(start + 1000 * held.row_bytes().count() - 1));
    held.resize(1);
    CHECK_FALSE(writing_faults(start + page - 1));
    CHECK(reading_faults(start + page));
    held.resize(0);
    CHECK(reading_faults(start));
    CHECK(writing_faults(start));
}

TEST_CASE("a growth that failed leaves no page that can be touched") {
    host_backend backend{{.max_mappings = 4}};
    pool_type pool{backend};
    mapper thread;
    auto held = make<growth::exact>(pool, thread, 1000);
    std::byte* const start = reinterpret_cast<std::byte*>(held.data());
    held.resize(3); // one page
    REQUIRE(held.try_resize(20).code() == errc::too_many_mappings);
    CHECK_FALSE(reading_faults(start + 4095));
    for (const std::size_t page : {1u, 2u, 3u, 4u, 6u})
        CHECK(reading_faults(start + page * 4096));
}

TEST_CASE("a view of a destroyed tensor faults instead of showing somebody else's memory") {
    host_backend backend;
    pool_type pool{backend};
    mapper thread;
    const float* left = nullptr;
    {
        auto held = make<growth::exact>(pool, thread, 1000);
        held.append(10);
        left = held.data();
    }
    CHECK(reading_faults(left));
}

TEST_CASE("after destruction nothing is left mapped, reserved or open") {
    const std::size_t descriptors = open_descriptors();
    REQUIRE(memory_file_lines() == 0);
    std::vector<std::pair<address, bytes>> ranges;
    {
        host_backend backend;
        pool_type pool{backend, {.chunk_size = 64_KiB}};
        mapper thread;
        auto first = make<growth::exact>(pool, thread, 100'000);
        auto second = make<growth::geometric<3, 2>>(pool, thread, 50'000);
        auto third = make<growth::look_ahead<2>>(pool, thread, 10'000);
        first.append(500);
        second.append(700);
        third.append(900);
        first.resize(100);
        for (const auto& [start, size] : {std::pair{address{first.data()}, first.reserved_bytes()},
                                          std::pair{address{second.data()}, second.reserved_bytes()},
                                          std::pair{address{third.data()}, third.reserved_bytes()}}) {
            ranges.emplace_back(start, size);
            CHECK(kernel_range(start, size).covered() == size);
        }
        CHECK(open_descriptors() == descriptors + 1);
        CHECK(memory_file_lines() >= 3);
    }
    CHECK(open_descriptors() == descriptors);
    CHECK(memory_file_lines() == 0);
    CHECK(kernel_memory_file_bytes() == 0_B);
    for (const auto& [start, size] : ranges)
        CHECK(kernel_range(start, size).covered() == 0_B);
}

TEST_CASE("the addresses of a process are the same before and after a thousand lives of a tensor") {
    const auto reserved_addresses = [] {
        bytes sum{0};
        for (const map_line& line : read_maps())
            sum += line.permissions[0] == '-' ? bytes{line.last - line.first} : bytes{0};
        return sum;
    };
    host_backend backend;
    pool_type pool{backend};
    mapper thread;
    const auto live = [&] {
        auto held = make<growth::look_ahead<2>>(pool, thread, 1'000'000); // 1.2 GiB of addresses
        held.append(8);
        held.append(8);
    };
    live();
    const bytes before = reserved_addresses();
    const int lives = any_sanitizer ? 50 : 1000;
    for (int life = 0; life < lives; ++life)
        live();
    CHECK(reserved_addresses() < before + 1_GiB); // a single life that leaks is more
    CHECK(backend.reserved_bytes() == 0_B);
    CHECK(pool.stats().in_use == 0_B);
    CHECK(pool.stats().created <= 16 * 4_KiB);
}
