// SPDX-License-Identifier: Apache-2.0
//
// Tensors whose pages a mapper thread maps before they are needed: who maps, what the owner finds, and what
// happens when tensors go while their pages are on the way.
#include "probe_backend.hpp"

#include "support/catch.hpp"
#include "support/sanitizers.hpp"

#include <vtensor/virtual_tensor.hpp>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <vector>

using namespace vtensor;
using vtensor::testing::eventually;
using vtensor::testing::probe_backend;

namespace {

using pool_type = chunk_pool<probe_backend, std::mutex>;
template <std::size_t Pages>
using ahead = virtual_tensor<std::uint32_t, probe_backend, growth::look_ahead<Pages>>;

constexpr std::size_t row_words = 1024; // a page a row

} // namespace

TEST_CASE("a tensor that grows steadily finds its pages mapped") {
    probe_backend backend;
    pool_type pool{backend};
    mapper thread;
    ahead<2> tokens{pool, thread, {row_words}, 400};
    for (std::uint32_t token = 0; token < 300; ++token) {
        tokens.append(1)(0, 7) = token;
        thread.drain(); // the step computes for longer than a mapping takes
        REQUIRE(tokens.mapped_rows() > tokens.rows());
    }
    CHECK(backend.maps_by_owner() == 1); // the very first page
    CHECK(backend.maps_by_owner() + backend.maps_by_others() == tokens.mapped_rows());
    CHECK(tokens.mapped_rows() <= 302);
    for (std::uint32_t token = 0; token < 300; ++token)
        REQUIRE(tokens.view()(token, 7) == token);
    CHECK(tokens.look_ahead_status());
}

TEST_CASE("pages are mapped ahead up to the longest length and no further") {
    probe_backend backend;
    pool_type pool{backend};
    mapper thread;
    ahead<8> tokens{pool, thread, {row_words}, 10};
    for (std::size_t rows = 1; rows <= 10; ++rows) {
        tokens.append(1);
        thread.drain();
        CHECK(tokens.mapped_rows() == std::min<std::size_t>(10, rows <= 5 ? 9 : 10));
    }
    CHECK(tokens.mapped_bytes() == 10 * 4_KiB);
}

TEST_CASE("a tensor that outruns the mapper maps by itself and waits for no queue") {
    probe_backend backend;
    pool_type pool{backend};
    mapper thread;
    backend.delay_us = 2000;
    ahead<4> tokens{pool, thread, {row_words}, 200};
    for (std::uint32_t token = 0; token < 60; ++token) {
        const auto fresh = tokens.append(1);
        fresh(0, 0) = token;
        fresh(0, row_words - 1) = ~token;
    }
    thread.drain();
    CHECK(tokens.verify());
    for (std::uint32_t token = 0; token < 60; ++token) {
        REQUIRE(tokens.view()(token, 0) == token);
        REQUIRE(tokens.view()(token, row_words - 1) == ~token);
    }
    CHECK(backend.maps_by_owner() + backend.maps_by_others() == tokens.mapped_rows());
}

TEST_CASE("a tensor may go while its pages are being mapped, and takes them along") {
    probe_backend backend;
    pool_type pool{backend};
    mapper thread;
    backend.delay_us = 1000;
    int in_flight = 0;
    for (int life = 0; life < 30; ++life) {
        std::optional<ahead<6>> tokens;
        tokens.emplace(pool, thread, row_shape{row_words}, std::size_t{100});
        tokens->append(3);
        if (life % 3 != 0)
            REQUIRE(eventually([&] { return backend.in_flight(); }));
        if (life % 3 == 2)
            std::this_thread::sleep_for(std::chrono::milliseconds{2});
        in_flight += backend.in_flight() ? 1 : 0;
        tokens.reset();
        REQUIRE(pool.stats().in_use == 0_B);
        REQUIRE(backend.host().reserved_bytes() == 0_B);
        REQUIRE_FALSE(backend.in_flight());
    }
    CHECK(in_flight > 0);
}

TEST_CASE("a tensor may be moved, shrunk and trimmed while its pages are being mapped") {
    probe_backend backend;
    pool_type pool{backend};
    mapper thread;
    backend.delay_us = 500;
    ahead<6> tokens{pool, thread, {row_words}, 100};
    for (std::uint32_t round = 0; round < 10; ++round) {
        tokens.append(5)(4, 1) = round;
        REQUIRE(eventually([&] { return backend.in_flight() || tokens.mapped_rows() > tokens.rows(); }));
        ahead<6> moved{std::move(tokens)};
        REQUIRE(moved.view()(4, 1) == round);
        if (round % 2 == 0) {
            moved.trim();
            REQUIRE(moved.mapped_bytes() == 5 * 4_KiB);
        }
        moved.resize(1);
        REQUIRE(moved.mapped_rows() <= 7);
        REQUIRE(moved.verify());
        moved.resize(0);
        tokens = std::move(moved);
    }
    tokens.trim();
    thread.drain();
    CHECK(pool.stats().in_use == 0_B);
}

TEST_CASE("after shrinking a tensor asks for its next pages again") {
    probe_backend backend;
    pool_type pool{backend};
    mapper thread;
    ahead<4> tokens{pool, thread, {row_words}, 100};
    tokens.append(20);
    thread.drain();
    CHECK(tokens.mapped_rows() == 24);
    tokens.resize(2);
    tokens.trim();
    CHECK(tokens.mapped_rows() == 2);
    tokens.append(1);
    thread.drain();
    CHECK(tokens.mapped_rows() == 7);
}

TEST_CASE("figures may be read by several threads while pages are being mapped") {
    probe_backend backend;
    pool_type pool{backend};
    mapper thread;
    backend.delay_us = 200;
    ahead<32> made{pool, thread, {row_words}, 100};
    made.append(3);
    const ahead<32>& tokens = made;
    std::atomic<int> wrong{0};
    std::vector<std::thread> readers;
    for (int reader = 0; reader < 3; ++reader) {
        readers.emplace_back([&] {
            std::size_t last = 0;
            while (last < 35) {
                const std::size_t mapped = tokens.mapped_rows();
                const tensor_stats stats = tokens.stats();
                if (mapped < last || stats.rows != 3 || stats.mapped < mapped * 4_KiB || !tokens.verify() ||
                    !tokens.look_ahead_status() || tokens.view().extents[0] != 3)
                    ++wrong;
                last = mapped;
            }
        });
    }
    for (std::thread& reader : readers)
        reader.join();
    CHECK(wrong == 0);
}

TEST_CASE("tensors of several threads grow on one mapper and one pool and keep their content") {
    constexpr int threads = 4;
    constexpr int lives = vtensor::testing::any_sanitizer ? 8 : 40;
    probe_backend backend;
    pool_type pool{backend, {.limit = 220 * 4_KiB, .scrub = scrub_policy::never}};
    mapper thread;
    std::atomic<int> wrong{0};

    const auto work = [&](std::uint32_t number) {
        std::mt19937_64 random{number};
        for (int life = 0; life < lives; ++life) {
            ahead<3> tokens{pool, thread, {row_words}, 50};
            std::uint32_t rows = 0;
            while (rows < 50) {
                const std::size_t count = std::min<std::size_t>(1 + random() % 3, 50 - rows);
                const auto fresh = tokens.try_append(count);
                if (!fresh) {
                    // 220 pages cannot be short for 4 × 50 rows with 3 ahead, all at once.
                    ++wrong;
                    break;
                }
                for (std::uint32_t row = 0; row < count; ++row) {
                    (*fresh)(row, 0) = number << 16 | (rows + row);
                    (*fresh)(row, row_words - 1) = number << 16 | (rows + row);
                }
                rows += static_cast<std::uint32_t>(count);
                if (random() % 16 == 0) {
                    rows /= 2;
                    if (!tokens.try_resize(rows))
                        ++wrong;
                }
                if (!tokens.verify() || tokens.rows() != rows)
                    ++wrong;
            }
            for (std::uint32_t row = 0; row < rows; ++row) {
                if (tokens.view()(row, 0) != (number << 16 | row) ||
                    tokens.view()(row, row_words - 1) != (number << 16 | row))
                    ++wrong;
            }
        }
    };
    std::vector<std::thread> owners;
    for (std::uint32_t owner = 1; owner <= threads; ++owner)
        owners.emplace_back(work, owner);
    for (std::thread& owner : owners)
        owner.join();
    thread.drain();
    CHECK(wrong == 0);
    CHECK(pool.stats().in_use == 0_B);
    CHECK(pool.verify());
    CHECK(backend.host().mapped_bytes() == 0_B);
    CHECK(backend.host().reserved_bytes() == 0_B);
}
