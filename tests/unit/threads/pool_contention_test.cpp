// SPDX-License-Identifier: Apache-2.0
//
// One pool used by several threads at once: no chunk has two holders, no limit is overrun, nothing is lost.
#include "support/catch.hpp"
#include "support/sanitizers.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

using namespace vtensor;

namespace {

using pool_type = chunk_pool<host_backend, std::mutex>;
using chunk = pool_type::chunk;

constexpr std::size_t threads = 4;
constexpr std::size_t limit = 48;
constexpr int rounds = vtensor::testing::any_sanitizer ? 1500 : 8000;

} // namespace

TEST_CASE("a chunk has one holder at a time however many threads acquire, share, release and trim") {
    host_backend backend;
    pool_type pool{backend, {.limit = limit * 4_KiB}};
    std::array<std::atomic<int>, 4096> holders{}; // by the backend's number of the chunk
    std::atomic<int> wrong{0};

    const auto work = [&](std::size_t seed) {
        std::mt19937_64 random{seed};
        std::vector<chunk> held;
        const auto let_go = [&](chunk one) {
            if (holders[one.handle().index].exchange(0) != 1)
                ++wrong;
            pool.release(one);
        };
        for (int round = 0; round < rounds; ++round) {
            const std::size_t choice = random() % 16;
            if (choice < 7) {
                std::array<chunk, 5> wanted{};
                const std::size_t count = 1 + random() % 5;
                const status outcome = pool.acquire(std::span{wanted}.first(count));
                for (std::size_t one = 0; one < count; ++one) {
                    if (outcome.ok() != static_cast<bool>(wanted[one]))
                        ++wrong;
                    if (!outcome)
                        continue;
                    if (holders[wanted[one].handle().index].exchange(1) != 0)
                        ++wrong;
                    held.push_back(wanted[one]);
                }
                if (!outcome && outcome.code() != errc::limit_exceeded)
                    ++wrong;
            } else if (choice < 13) {
                for (std::size_t count = random() % 6; count > 0 && !held.empty(); --count) {
                    let_go(held.back());
                    held.pop_back();
                }
            } else if (choice == 13 && !held.empty()) {
                pool.retain(held[0]);
                if (pool.references(held[0]) != 2)
                    ++wrong;
                pool.release(held[0]);
            } else if (choice == 14) {
                if (!pool.trim(random() % 20))
                    ++wrong;
            } else {
                const status outcome = pool.prefill(random() % 20);
                if (!outcome && outcome.code() != errc::limit_exceeded)
                    ++wrong;
                const chunk_pool_stats stats = pool.stats();
                if (stats.created > limit * 4_KiB || stats.in_use + stats.free != stats.created)
                    ++wrong;
                if (!pool.verify())
                    ++wrong;
            }
        }
        for (const chunk one : held)
            let_go(one);
    };
    std::vector<std::thread> workers;
    for (std::size_t worker = 0; worker < threads; ++worker)
        workers.emplace_back(work, worker + 1);
    for (std::thread& worker : workers)
        worker.join();

    CHECK(wrong == 0);
    CHECK(pool.stats().in_use == 0_B);
    CHECK(pool.stats().high_watermark <= limit * 4_KiB);
    CHECK(pool.verify());
    CHECK(pool.stats().created == backend.kernel_physical_bytes());
    CHECK(pool.trim());
    CHECK(backend.kernel_physical_bytes() == 0_B);
}

TEST_CASE("the limit of a pool moves while threads press against it") {
    host_backend backend;
    pool_type pool{backend, {.limit = limit * 4_KiB}};
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    std::vector<std::thread> workers;
    for (std::size_t worker = 0; worker < threads - 1; ++worker) {
        workers.emplace_back([&] {
            std::array<chunk, 7> wanted{};
            while (!stop) {
                const status outcome = pool.acquire(wanted);
                if (!outcome && outcome.code() != errc::limit_exceeded)
                    ++wrong;
                for (chunk& one : wanted) {
                    if (outcome)
                        pool.release(one);
                    one = chunk{};
                }
            }
        });
    }
    for (int round = 0; round < rounds / 4; ++round) {
        const bytes next = (1 + static_cast<std::size_t>(round) % limit) * 4_KiB;
        const status outcome = pool.resize_limit(next);
        const chunk_pool_stats stats = pool.stats();
        if (outcome.ok() != (stats.limit == next && stats.created <= next) &&
            !(outcome.code() == errc::limit_exceeded))
            ++wrong;
    }
    stop = true;
    for (std::thread& worker : workers)
        worker.join();
    CHECK(wrong == 0);
    CHECK(pool.verify());
    CHECK(pool.stats().in_use == 0_B);
}

TEST_CASE("tensors of several threads grow and shrink on one pool and keep their content") {
    host_backend backend;
    pool_type pool{backend, {.limit = 60 * 4_KiB, .scrub = scrub_policy::between_owners}};
    std::atomic<int> wrong{0};
    std::atomic<int> refused{0};

    const auto work = [&](std::uint32_t number) {
        using tensor = virtual_tensor<std::uint32_t, host_backend, growth::geometric<3, 2>,
                                      eviction::keep_all, std::mutex>;
        tensor own{pool, {256}, 120, {}, {owner_id{number}}};
        std::mt19937_64 random{number};
        std::size_t rows = 0;
        for (int round = 0; round < rounds / 4; ++round) {
            const std::size_t next = random() % 121;
            const status outcome = own.try_resize(next);
            refused += outcome ? 0 : 1;
            if (!outcome && outcome.code() != errc::limit_exceeded)
                ++wrong;
            for (std::size_t row = rows; outcome && row < next; ++row) {
                const std::uint32_t found = own.view()(row, row % 256);
                if (found != 0 && found >> 24 != number)
                    ++wrong; // somebody else's
                own.view()(row, row % 256) = number << 24 | static_cast<std::uint32_t>(row);
            }
            rows = outcome ? next : rows;
            for (std::size_t row = 0; row < rows; ++row) {
                if (own.view()(row, row % 256) != (number << 24 | static_cast<std::uint32_t>(row)))
                    ++wrong;
            }
            if (own.rows() != rows || !own.verify())
                ++wrong;
        }
    };
    std::vector<std::thread> workers;
    for (std::uint32_t worker = 1; worker <= threads; ++worker)
        workers.emplace_back(work, worker);
    for (std::thread& worker : workers)
        worker.join();
    CHECK(wrong == 0);
    CHECK(refused > 0);
    CHECK(pool.stats().in_use == 0_B);
    CHECK(backend.reserved_bytes() == 0_B);
}
