// SPDX-License-Identifier: Apache-2.0
// Pages that a real kernel reads while they are given up. A kernel is kept running by a gate, reads the pages
// again and again meanwhile and once more when the gate is open; had a page been unmapped, the device would
// have faulted and every later call failed; had it been given to another, the words would be wrong.
#include <support/device_main.hpp> // first: it is also Catch2's runner

#include "scene.hpp"

#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

using pool_type = chunk_pool<cuda_backend>;

/// A tensor of eight pages that hold their words.
struct filled {
    explicit filled(pool_type& pool, std::size_t rows = 8)
        : tensor{std::make_unique<page_tensor<>>(pool, one_page(), rows)} {
        tensor->resize(rows);
        gpu_fill(stream, start_of(*tensor), 0_B, bytes_of(*tensor), seed);
        stream.wait();
    }
    /// Starts the kernel that reads all of it, and waits until it does.
    void start_reading() {
        gpu_check_until_open(stream, start_of(*tensor), bytes_of(*tensor), seed, figures);
        figures.wait_for_reader();
    }
    void stop_reading() {
        REQUIRE(stream.busy());
        figures.open();
        stream.wait();
        CHECK(figures.wrong() == 0);
    }

    static constexpr unsigned seed = 7;
    gpu_stream stream;
    gpu_figures figures;
    std::unique_ptr<page_tensor<>> tensor;
};

} // namespace

TEST_CASE("pages that a kernel reads stay mapped until it is done") {
    cuda_backend backend;
    pool_type pool{backend, {.chunk_size = gpu_page}};
    {
        filled scene{pool};
        scene.start_reading();
        const auto begun = std::chrono::steady_clock::now();
        scene.tensor->resize(2, scene.stream.get());
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
        CHECK(took.count() < 5); // the kernel would go on for ten seconds
        CHECK(scene.tensor->retiring_bytes() == gpu_page * 6);
        REQUIRE(pool.retiring().reclaim());
        CHECK(backend.mapped_bytes() == gpu_page * 8);
        scene.stop_reading();
        REQUIRE(pool.retiring().reclaim());
        CHECK(scene.tensor->retiring_bytes() == 0_B);
        CHECK(backend.mapped_bytes() == gpu_page * 2);
        CHECK(gpu_wrong_words(scene.stream, start_of(*scene.tensor), bytes_of(*scene.tensor), filled::seed) ==
              0);
        CHECK(pool.verify());
        CHECK(pool.retiring().verify());
    }
    CHECK(backend.mapped_bytes() == 0_B);
    CHECK(backend.reserved_bytes() == 0_B);
}

TEST_CASE("growth takes pages back that a kernel still reads") {
    cuda_backend backend;
    pool_type pool{backend, {.chunk_size = gpu_page}};
    filled scene{pool};
    scene.start_reading();
    scene.tensor->resize(1, scene.stream.get());
    scene.tensor->resize(8);
    CHECK(scene.tensor->retiring_bytes() == 0_B);
    scene.stop_reading();
    CHECK(gpu_wrong_words(scene.stream, start_of(*scene.tensor), bytes_of(*scene.tensor), filled::seed) == 0);
}

TEST_CASE("a tensor is destroyed while a kernel reads what it gave up") {
    cuda_backend backend;
    pool_type pool{backend, {.chunk_size = gpu_page}};
    filled scene{pool};
    scene.start_reading();
    scene.tensor->retire(scene.stream.get());
    scene.tensor.reset();
    CHECK(backend.mapped_bytes() == gpu_page * 8);
    scene.stop_reading();
    REQUIRE(pool.retiring().drain());
    CHECK(backend.mapped_bytes() == 0_B);
    CHECK(backend.reserved_bytes() == 0_B);
}

TEST_CASE("a chunk gets a new owner only when no kernel reads it") {
    cuda_backend backend;
    pool_type pool{backend, {.chunk_size = gpu_page, .limit = gpu_page * 8, .wait_for_retiring = true}};
    filled scene{pool};
    page_tensor<> next{pool, one_page(), 8};
    const gpu_stream other;
    scene.start_reading();
    scene.tensor->retire(scene.stream.get());
    std::thread opener{[&] {
        std::this_thread::sleep_for(std::chrono::milliseconds{100});
        scene.figures.open();
    }};
    const status grown = next.try_resize(8); // there is no other memory: it waits
    const bool read_on = scene.stream.busy();
    opener.join();
    REQUIRE(grown);
    CHECK_FALSE(read_on);
    gpu_fill(other, start_of(next), 0_B, bytes_of(next), 99);
    other.wait();
    scene.stream.wait();
    CHECK(scene.figures.wrong() == 0);
    CHECK(gpu_wrong_words(other, start_of(next), bytes_of(next), 99) == 0);
}

TEST_CASE("tensors on several streams grow and shrink at random under their kernels") {
    constexpr std::size_t most = 24;
    cuda_backend backend;
    pool_type pool{backend, {.chunk_size = gpu_page, .limit = gpu_page * 48, .wait_for_retiring = true}};
    struct worker {
        worker(pool_type& from, unsigned number) : seed{number}, tensor{from, one_page(), most} {}
        unsigned seed;
        gpu_stream stream;
        page_tensor<> tensor;
    };
    const gpu_figures figures;
    {
        std::vector<std::unique_ptr<worker>> workers;
        for (unsigned number = 1; number <= 4; ++number)
            workers.push_back(std::make_unique<worker>(pool, number));
        std::mt19937 random{20'251'121};
        const auto below = [&](std::size_t end) {
            return std::uniform_int_distribution<std::size_t>{0, end - 1}(random);
        };
        for (int step = 0; step < 600; ++step) {
            worker& one = *workers[below(workers.size())];
            const std::size_t rows = one.tensor.rows();
            if (below(2) == 0) {
                const std::size_t wanted = rows + below(most - rows + 1);
                if (one.tensor.try_resize(wanted))
                    gpu_fill(one.stream, start_of(one.tensor), gpu_page * rows, gpu_page * (wanted - rows),
                             one.seed);
                else
                    CHECK(one.tensor.rows() == rows);
            } else {
                gpu_check(one.stream, start_of(one.tensor), bytes_of(one.tensor), one.seed, figures);
                one.tensor.resize(below(rows + 1), one.stream.get());
            }
            REQUIRE(one.tensor.verify());
        }
        for (const auto& one : workers) {
            gpu_check(one->stream, start_of(one->tensor), bytes_of(one->tensor), one->seed, figures);
            one->stream.wait();
        }
        CHECK(figures.wrong() == 0);
        CHECK(pool.verify());
        CHECK(pool.retiring().verify());
    }
    REQUIRE(pool.retiring().drain());
    CHECK(backend.mapped_bytes() == 0_B);
}

int main(int count, char** arguments) { return run_on_device<cuda_backend>(count, arguments); }
