// SPDX-License-Identifier: Apache-2.0
//
// The decoder's executor. Built from one source file, so that it runs under the thread sanitizer in no time.
#include <support/catch.hpp>

#include "model/thread_pool.hpp"

#include <atomic>
#include <cstddef>
#include <numeric>
#include <thread>
#include <vector>

using decoder::thread_pool;

TEST_CASE("Every task runs exactly once, whatever the number of threads and tasks") {
    for (const std::size_t count : {1U, 2U, 3U, 8U}) {
        thread_pool threads{count};
        CHECK(threads.threads() == count);
        std::size_t wrong = 0;
        for (std::size_t round = 0; round < 300; ++round) {
            const std::size_t tasks = round % 17;
            std::vector<std::atomic<int>> ran(tasks);
            threads(tasks, [&](std::size_t task) { ran[task].fetch_add(1); });
            for (const auto& times : ran)
                wrong += times.load() == 1 ? 0U : 1U;
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("What one job writes, the caller and the tasks of the next job see") {
    thread_pool threads{4};
    std::vector<std::size_t> numbers(64); // plain memory: the thread sanitizer checks the order
    for (std::size_t round = 0; round < 500; ++round) {
        threads(numbers.size(), [&](std::size_t task) { numbers[task] += task; });
        threads(numbers.size() / 2,
                [&](std::size_t task) { numbers[task] += numbers[task + numbers.size() / 2] - task - 32; });
        threads(numbers.size() / 2,
                [&](std::size_t task) { numbers[task] -= numbers[task + numbers.size() / 2] - task - 32; });
    }
    const std::size_t expected = 500 * (63 * 64 / 2);
    CHECK(std::accumulate(numbers.begin(), numbers.end(), std::size_t{0}) == expected);
}

TEST_CASE("A pool may be made, used once or never, and destroyed at once") {
    for (std::size_t round = 0; round < 100; ++round) {
        thread_pool threads{3};
        if (round % 2 == 0) {
            std::atomic<std::size_t> sum{0};
            threads(5, [&](std::size_t task) { sum += task; });
            CHECK(sum == 10);
        }
    }
}

TEST_CASE("Workers that went to sleep wake up for the next job") {
    thread_pool threads{3};
    for (int round = 0; round < 20; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds{2});
        std::atomic<int> ran{0};
        threads(8, [&](std::size_t) { ++ran; });
        CHECK(ran == 8);
    }
}
