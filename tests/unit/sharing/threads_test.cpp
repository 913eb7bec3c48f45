// SPDX-License-Identifier: Apache-2.0
//
// Threads that share one pool, each with tensors of its own that share pages among each other and, through
// the pool, with those of the other threads.
#include "support/catch.hpp"
#include "support/sanitizers.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

TEST_CASE("threads with forks of one tensor write and release them without seeing each other") {
    using tensor = virtual_tensor<int, host_backend, growth::look_ahead<2>>;
    host_backend backend;
    tensor::pool_type pool{backend};
    mapper thread;
    constexpr std::size_t rows = 20;
    const int rounds = any_sanitizer ? 40 : 300;
    std::atomic<std::size_t> wrong{0};
    {
        tensor source{pool, thread, {1024}, 1000};
        const auto first = source.append(rows);
        for (std::size_t row = 0; row < rows; ++row)
            first(row, 0) = static_cast<int>(row);
        std::vector<tensor> forks;
        for (int index = 0; index < 4; ++index)
            forks.push_back(source.fork());
        std::vector<std::thread> workers;
        for (int index = 0; index < 4; ++index) {
            workers.emplace_back([&, index] {
                tensor& mine = forks[static_cast<std::size_t>(index)];
                for (int round = 0; round < rounds; ++round) {
                    tensor again = mine.fork();
                    again.append(3)(0, 0) = index;
                    again.make_writable(5, 2);
                    again.view()(5, 0) = -index;
                    for (std::size_t row = 0; row < rows; ++row) {
                        const int expected = row == 5 ? -index : static_cast<int>(row);
                        wrong += again.view()(row, 0) != expected ? 1u : 0u;
                        wrong += mine.view()(row, 0) != static_cast<int>(row) ? 1u : 0u;
                    }
                    wrong += again.verify() && mine.verify() ? 0u : 1u;
                }
            });
        }
        for (std::thread& worker : workers)
            worker.join();
        CHECK(wrong == 0);
        CHECK(pool.verify());
        CHECK(source.shared_bytes() == rows * 4_KiB);
        CHECK(pool.stats().aliases == 4 * rows);
    }
    thread.drain();
    CHECK(pool.stats().in_use == 0_B);
}
