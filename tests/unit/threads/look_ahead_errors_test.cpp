// SPDX-License-Identifier: Apache-2.0
//
// Failures of the mapper thread: they fail no operation that does not need its pages, are told when asked
// for, and do not come between the owner and a mapping of his own.
#include "probe_backend.hpp"

#include "support/catch.hpp"
#include "support/error_codes.hpp"
#include "support/sanitizers.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

using namespace vtensor;
using vtensor::adaptors::call;
using vtensor::adaptors::failing;
using vtensor::testing::every_error_code;

namespace {

using failing_host = failing<host_backend>;
using pool_type = chunk_pool<failing_host, std::mutex>;
using ahead = virtual_tensor<std::uint32_t, failing_host, growth::look_ahead<4>>;

constexpr std::size_t row_words = 1024; // a page a row

/// Every map of a thread other than this one fails.
void fail_on_the_mapper(failing_host& backend, errc code) {
    const auto owner = std::this_thread::get_id();
    backend.fail_if(
        [owner](const call& seen) { return seen.what == verb::map && std::this_thread::get_id() != owner; },
        code);
}

} // namespace

TEST_CASE("a failure of the mapper thread is told, and the owner maps what he needs by himself") {
    for (const errc code : every_error_code()) {
        host_backend host;
        failing_host backend{host};
        pool_type pool{backend};
        mapper thread;
        ahead tokens{pool, thread, {row_words}, 100};
        CHECK(tokens.look_ahead_status());

        fail_on_the_mapper(backend, code);
        for (std::uint32_t token = 0; token < 20; ++token) {
            const auto fresh = tokens.try_append(1);
            REQUIRE(fresh);
            (*fresh)(0, 3) = token;
            thread.drain();
            REQUIRE(tokens.look_ahead_status().code() == code);
            REQUIRE(tokens.look_ahead_status().error().where == verb::map);
            REQUIRE(tokens.mapped_rows() == token + 1);
            REQUIRE(tokens.mapped_bytes() == host.mapped_bytes());
            REQUIRE(tokens.verify());
        }
        backend.disarm();
        tokens.append(1);
        thread.drain();
        CHECK(tokens.look_ahead_status());
        CHECK(tokens.mapped_rows() == 25);
        for (std::uint32_t token = 0; token < 20; ++token)
            CHECK(tokens.view()(token, 3) == token);
    }
}

TEST_CASE("where the owner's own mapping fails too, the operation that needs it returns that failure") {
    host_backend host;
    failing_host backend{host};
    pool_type pool{backend};
    mapper thread;
    ahead tokens{pool, thread, {row_words}, 100};
    tokens.append(3);
    thread.drain();
    REQUIRE(tokens.mapped_rows() == 7);

    backend.fail_from(1, errc::too_many_mappings);
    tokens.append(4); // already mapped; the mapper fails behind it
    thread.drain();
    CHECK(tokens.look_ahead_status().code() == errc::too_many_mappings);
    const auto refused = tokens.try_append(1);
    CHECK(refused.code() == errc::too_many_mappings);
    CHECK(tokens.rows() == 7);
    CHECK(tokens.mapped_rows() == 7);
    CHECK(tokens.look_ahead_status().code() == errc::too_many_mappings);
    CHECK(tokens.verify());

    backend.disarm();
    CHECK(tokens.try_append(1));
    thread.drain();
    CHECK(tokens.look_ahead_status());
    CHECK(tokens.mapped_rows() == 12);
}

TEST_CASE("a limit that the pages ahead would overrun holds back those pages and not the rows") {
    host_backend host;
    failing_host backend{host};
    pool_type pool{backend, {.limit = 10 * 4_KiB}};
    mapper thread;
    ahead tokens{pool, thread, {row_words}, 100};
    for (int token = 0; token < 10; ++token) {
        REQUIRE(tokens.try_append(1));
        thread.drain();
    }
    CHECK(tokens.rows() == 10);
    CHECK(tokens.look_ahead_status().code() == errc::limit_exceeded);
    CHECK(tokens.try_append(1).code() == errc::limit_exceeded);
    CHECK(pool.resize_limit(0_B));
    CHECK(tokens.try_append(1));
    thread.drain();
    CHECK(tokens.look_ahead_status());
    CHECK(tokens.mapped_rows() == 15);
}

TEST_CASE("failures on every thread at random leave every tensor with its rows and content") {
    constexpr int threads = 3;
    constexpr int rounds = vtensor::testing::any_sanitizer ? 300 : 2000;
    host_backend host;
    failing_host backend{host};
    pool_type pool{backend, {.limit = 100 * 4_KiB}};
    mapper thread;
    std::atomic<int> wrong{0};
    std::atomic<int> failed{0};
    // Every 23rd call of each thread, so that no thread meets two failures in a row: what cannot be unmapped
    // by the second try is lost by design.
    backend.fail_if(
        [](const call&) {
            thread_local std::size_t calls = 0;
            return ++calls % 23 == 0;
        },
        errc::native_failure);

    const auto work = [&](std::uint32_t number) {
        for (int life = 0; life < 5; ++life) {
            auto made = ahead::try_create(pool, thread, {row_words}, 40);
            if (!made) {
                ++failed;
                continue;
            }
            ahead tokens = *std::move(made);
            std::uint32_t rows = 0;
            for (int round = 0; round < rounds / 5; ++round) {
                const std::size_t wanted = static_cast<std::size_t>(round * 7 + life) % 30;
                const status outcome = tokens.try_resize(wanted);
                failed += outcome ? 0 : 1;
                for (std::uint32_t row = rows; outcome && row < wanted; ++row)
                    tokens.view()(row, row) = number << 16 | row;
                rows = outcome ? static_cast<std::uint32_t>(wanted) : rows;
                for (std::uint32_t row = 0; row < rows; ++row) {
                    if (tokens.view()(row, row) != (number << 16 | row))
                        ++wrong;
                }
                if (tokens.rows() != rows || !tokens.verify())
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
    CHECK(failed > 10);
    CHECK(pool.stats().in_use == 0_B);
    CHECK(pool.verify());
    CHECK(host.mapped_bytes() == 0_B);
    CHECK(host.reserved_bytes() == 0_B);
    CHECK(pool.stats().created == host.kernel_physical_bytes());
}
