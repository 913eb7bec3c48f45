// SPDX-License-Identifier: Apache-2.0
//
// The decoder with its cache on a device, which here is a simulated one: the same text as on the host, and no
// row read or unmapped at the wrong time.
#include <support/catch.hpp>

#include "model/kv_cache.hpp"
#include "model/thread_pool.hpp"
#include "support/cache_content.hpp"
#include "support/run.hpp"
#include "support/simulated_device.hpp"
#include "support/vectors.hpp"

#include <vtensor/backends/cuda.hpp>
#include <vtensor/backends/host.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

using namespace decoder;
using namespace vtensor::literals;
using decoder_test::content_of_cache;
using decoder_test::loaded;
using decoder_test::read_expected;
using decoder_test::run_greedily;
using decoder_test::simulated_device;
using decoder_test::vectors;
using vtensor::testing::simulated::execution;

namespace {

constexpr auto every_growth = {kv_growth::exact, kv_growth::fixed, kv_growth::geometric,
                               kv_growth::look_ahead};

/// What a cache must hold, in plain memory: K and V, layer by layer.
class plain_cache {
  public:
    explicit plain_cache(const kv_shape& shape) : shape_{shape}, tensors_(2 * shape.layers) {}

    void truncate(std::size_t rows) {
        for (auto& tensor : tensors_)
            tensor.resize(std::min(tensor.size(), rows * row()));
    }
    /// New rows of every tensor, drawn.
    void append(std::size_t rows) {
        for (auto& tensor : tensors_)
            for (std::size_t i = 0; i < rows * row(); ++i)
                tensor.push_back(static_cast<float>(random_() % 100'003));
    }
    /// Writes the rows from `first` on, as the model does, and reads what attention would see.
    void store_into(kv_cache& cache, std::size_t first) const {
        for (std::size_t layer = 0; layer < shape_.layers; ++layer)
            REQUIRE(cache
                        .try_store(layer, first, std::span{tensors_[2 * layer]}.subspan(first * row()),
                                   std::span{tensors_[2 * layer + 1]}.subspan(first * row()))
                        .ok());
    }
    [[nodiscard]] std::vector<std::byte> content() const {
        std::vector<std::byte> all;
        for (const auto& tensor : tensors_) {
            const auto bytes = std::as_bytes(std::span{tensor});
            all.insert(all.end(), bytes.begin(), bytes.end());
        }
        return all;
    }
    [[nodiscard]] std::size_t rows() const { return tensors_.front().size() / row(); }

  private:
    [[nodiscard]] std::size_t row() const { return shape_.kv_heads * shape_.head_dim; }

    kv_shape shape_;
    std::vector<std::vector<float>> tensors_;
    std::mt19937 random_{7};
};

/// The device's primary context in this thread, in which a test may name the default stream.
class current_context {
  public:
    explicit current_context(const vtensor::cuda_driver& driver) : driver_{driver} {
        REQUIRE(driver_.device_primary_ctx_retain(&context_, 0) == 0);
        REQUIRE(driver_.ctx_push_current(context_) == 0);
    }
    current_context(const current_context&) = delete;
    current_context& operator=(const current_context&) = delete;
    ~current_context() {
        CHECK(driver_.ctx_pop_current(&context_) == 0);
        CHECK(driver_.device_primary_ctx_release(0) == 0);
    }

  private:
    vtensor::cuda_driver driver_;
    CUctx_st* context_ = nullptr;
};

} // namespace

TEST_CASE("A cache on a device does not change a bit of the logits, however it grows") {
    const std::string folder = GENERATE("tied", "untied_llama3");
    const auto type = GENERATE(kv_type::f32, kv_type::f16, kv_type::bf16);
    const std::size_t granularity = GENERATE(std::size_t{4096}, std::size_t{2} << 20);
    const auto streams = GENERATE(execution::at_once, execution::worker);
    constexpr std::size_t steps = 32;
    const auto truth = read_expected(folder);
    loaded model{vectors() / folder};
    thread_pool threads{2};
    vtensor::host_backend host;
    const auto host_cache = make_kv_cache(host, model.model.cache_shape(), {type, kv_growth::exact, {}, {}});
    const auto reference = run_greedily(model, *host_cache, truth.prompt, steps, 64, threads);
    if (type == kv_type::f32)
        CHECK(reference.tokens == std::vector<int>(truth.greedy.begin(), truth.greedy.end()));

    simulated_device device{granularity, streams};
    for (const auto growth : every_growth)
        for (const std::size_t granules : {1U, 3U})
            for (const std::size_t chunk : {1U, 7U, 64U}) {
                CAPTURE(folder, static_cast<int>(type), static_cast<int>(growth), granules, chunk);
                const auto cache = make_kv_cache(device.memory, model.model.cache_shape(),
                                                 {type, growth, device.memory.granularity() * granules, {}});
                const auto run = run_greedily(model, *cache, truth.prompt, steps, chunk, threads);
                CHECK(run.tokens == reference.tokens);
                CHECK(run.prompt_logits == reference.prompt_logits);
                CHECK(run.step_logits == reference.step_logits);
                CHECK(cache->verify());
                const auto figures = cache->figures(); // waits for the mapper
                CHECK(figures.mapped == device.memory.mapped_bytes());
            }
}

TEST_CASE("Rows on a device are what was stored, over pages of 2 MiB and whatever was taken back") {
    const auto growth =
        GENERATE(kv_growth::exact, kv_growth::fixed, kv_growth::geometric, kv_growth::look_ahead);
    const auto streams = GENERATE(execution::at_once, execution::worker);
    const kv_shape shape{2, 4, 128, 5000}; // 1,024 rows of float32 a page
    simulated_device device{std::size_t{2} << 20, streams};
    const auto cache = make_kv_cache(device.memory, shape, {kv_type::f32, growth, {}, {}});
    plain_cache truth{shape};
    CAPTURE(static_cast<int>(growth));

    const auto append = [&](std::size_t rows) {
        const std::size_t first = truth.rows();
        truth.append(rows);
        REQUIRE(cache->try_grow(first + rows).ok());
        truth.store_into(*cache, first);
    };
    const auto check = [&] {
        CHECK(cache->rows() == truth.rows());
        CHECK((content_of_cache(*cache, shape.layers) == truth.content()));
        const auto figures = cache->figures();
        CHECK(figures.mapped == device.memory.mapped_bytes());
        CHECK(figures.mapped >= memory_for(shape, kv_type::f32, 2_MiB, truth.rows()));
        CHECK(cache->verify());
    };
    append(1000);
    append(24);
    check();
    append(1);
    check();
    append(2500);
    check();
    for (const std::size_t rows : {3000U, 1024U, 1023U, 0U}) {
        truth.truncate(rows);
        cache->truncate(rows);
        check();
        append(600);
        append(500);
        check();
    }
    const auto before = cache->figures();
    REQUIRE(cache->try_grow(truth.rows() + 2000).ok());
    cache->undo_growth();
    check();
    CHECK(cache->figures().mapped == before.mapped);
    CHECK(cache->try_grow(5001).code() == vtensor::errc::limit_exceeded);
    check();
}

TEST_CASE("Rows that queued copies still write are unmapped only when those are done") {
    const kv_shape shape{1, 4, 128, 8192}; // 1,024 rows of float32 a page
    simulated_device device{std::size_t{2} << 20};
    const current_context context{device.machine.driver()};
    auto cache = make_kv_cache(device.memory, shape, {kv_type::f32, kv_growth::exact, {}, {}});
    plain_cache truth{shape};
    truth.append(2048);
    REQUIRE(cache->try_grow(2048).ok());
    device.machine.stall(nullptr);
    truth.store_into(*cache, 0); // queued

    SECTION("and come back where the cache grows before that") {
        cache->truncate(1024);
        CHECK(cache->figures().mapped == 2 * 2_MiB);
        CHECK(device.memory.mapped_bytes() == 4 * 2_MiB);
        REQUIRE(cache->try_grow(1500).ok());
        CHECK(device.memory.mapped_bytes() == 4 * 2_MiB);
        cache->truncate(1000);
        CHECK(device.memory.mapped_bytes() == 4 * 2_MiB);
        device.machine.resume(nullptr);
        CHECK(cache->figures().mapped == 2 * 2_MiB);
        CHECK(device.memory.mapped_bytes() == 2 * 2_MiB);
        CHECK(cache->verify());
    }
    SECTION("for which taking a growth back waits") {
        std::thread later{[&] {
            std::this_thread::sleep_for(std::chrono::milliseconds{50});
            device.machine.resume_all();
        }};
        cache->undo_growth();
        later.join();
        CHECK(cache->rows() == 0);
        CHECK(device.machine.physical_bytes() == 0);
        CHECK(cache->verify());
    }
    SECTION("for which the end of the cache waits") {
        std::thread later{[&] {
            std::this_thread::sleep_for(std::chrono::milliseconds{50});
            device.machine.resume_all();
        }};
        SECTION("with all its rows") {}
        SECTION("with none") { cache->truncate(0); }
        cache.reset();
        later.join();
        CHECK(device.machine.physical_bytes() == 0);
    }
}

TEST_CASE("Only new rows are copied up, and nothing waits for more than an event") {
    using vtensor::testing::simulated::entry;
    const kv_shape shape{1, 2, 64, 4096};
    simulated_device device{std::size_t{2} << 20};
    const auto cache = make_kv_cache(device.memory, shape, {kv_type::f16, kv_growth::exact, {}, {}});
    plain_cache truth{shape};
    truth.append(300);
    REQUIRE(cache->try_grow(300).ok());
    truth.store_into(*cache, 0);
    static_cast<void>(cache->try_read(0).value());
    device.machine.clear_log();
    truth.append(1);
    REQUIRE(cache->try_grow(301).ok());
    truth.store_into(*cache, 300);
    static_cast<void>(cache->try_read(0).value());
    std::vector<std::size_t> copied;
    for (const auto& call : device.machine.log())
        if (call.what == entry::memcpy_async)
            copied.push_back(call.size);
    constexpr std::size_t row = 2 * 64 * 2;
    CHECK(copied == std::vector<std::size_t>{row, row, 301 * row, 301 * row});
    CHECK(device.machine.calls(entry::stream_synchronize) == 0);
    CHECK(device.machine.calls(entry::event_synchronize) == 1);
}

TEST_CASE("A cache at its limit on a device gives up what growth policies hold before it refuses") {
    const auto growth =
        GENERATE(kv_growth::exact, kv_growth::fixed, kv_growth::geometric, kv_growth::look_ahead);
    const auto streams = GENERATE(execution::at_once, execution::worker);
    CAPTURE(static_cast<int>(growth));
    const kv_shape shape{2, 1, 16, 4096}; // 128 rows of float16 a page of 4,096
    simulated_device device{4096, streams};
    const auto limit = memory_for(shape, kv_type::f16, vtensor::bytes{4096}, 1280);
    const auto cache = make_kv_cache(device.memory, shape, {kv_type::f16, growth, {}, limit});
    for (std::size_t rows = 1; rows <= 1280; ++rows)
        REQUIRE(cache->try_grow(rows).ok());
    CHECK(cache->figures().mapped == limit);
    CHECK(device.machine.physical_bytes() == limit.count());
    CHECK(cache->try_grow(1281).code() == vtensor::errc::limit_exceeded);
    CHECK(cache->rows() == 1280);
    CHECK(cache->figures().mapped == limit);
    cache->truncate(640);
    CHECK(cache->try_grow(1280).ok());
    CHECK(cache->verify());
}
