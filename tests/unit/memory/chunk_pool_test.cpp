// SPDX-License-Identifier: Apache-2.0
//
// chunk_pool<host_backend>: limits, figures, reuse and references, each compared with what the backend and
// the kernel count.
#include "support/catch.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/memory/chunk_pool.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <mutex>
#include <vector>

using namespace vtensor;

namespace {

using pool_type = chunk_pool<host_backend>;
using chunk = pool_type::chunk;

constexpr bytes page = 4_KiB;

std::vector<chunk> acquire(pool_type& pool, std::size_t count) {
    std::vector<chunk> chunks(count);
    REQUIRE(pool.acquire(chunks));
    return chunks;
}

void release(pool_type& pool, const std::vector<chunk>& chunks) {
    for (const chunk held : chunks)
        pool.release(held);
}

/// The pool's figures are whole, and agree with the backend's and the kernel's.
void check_figures(const pool_type& pool, std::size_t in_use, std::size_t free) {
    const chunk_pool_stats stats = pool.stats();
    const bytes size = pool.chunk_size();
    CHECK(stats.in_use == in_use * size);
    CHECK(stats.free == free * size);
    CHECK(stats.created == (in_use + free) * size);
    CHECK(pool.backend().physical_bytes() == stats.created);
    CHECK(pool.backend().kernel_physical_bytes() == stats.created);
    CHECK(pool.verify());
}

} // namespace

static_assert(!std::is_copy_constructible_v<pool_type> && !std::is_move_constructible_v<pool_type>);
static_assert(std::is_trivially_copyable_v<chunk> && sizeof(chunk) == sizeof(void*));

TEST_CASE("a new pool holds nothing and takes the granularity as its chunk size") {
    host_backend backend{{.granularity = 64_KiB}};
    const pool_type pool{backend};
    CHECK(pool.chunk_size() == 64_KiB);
    CHECK(&pool.backend() == &backend);
    check_figures(pool, 0, 0);
    const chunk_pool_stats stats = pool.stats();
    CHECK(stats.limit == 0_B);
    CHECK(stats.high_watermark == 0_B);
    CHECK(stats.acquired == 0);
}

TEST_CASE("a chunk size that the backend cannot map is refused with and without exceptions") {
    host_backend backend;
    CHECK(pool_type::try_create(backend, {.chunk_size = 6_KiB}).code() == errc::misaligned);
    CHECK(pool_type::try_create(backend, {.chunk_size = 1_B}).error().where == verb::construct);
    CHECK_THROWS_AS((pool_type{backend, {.chunk_size = 6_KiB}}), bad_argument);
    CHECK(backend.physical_bytes() == 0_B);
}

TEST_CASE("a chunk may be any multiple of the granularity, also one that is no power of two") {
    host_backend backend;
    const auto pool = pool_type::try_create(backend, {.chunk_size = 12_KiB});
    REQUIRE(pool);
    const auto chunks = acquire(**pool, 3);
    check_figures(**pool, 3, 0);
    release(**pool, chunks);
    check_figures(**pool, 0, 3);
}

TEST_CASE("released chunks are kept and handed out again without asking the backend") {
    host_backend backend;
    pool_type pool{backend};
    release(pool, acquire(pool, 4));
    check_figures(pool, 0, 4);
    const auto again = acquire(pool, 6);
    check_figures(pool, 6, 0);
    const chunk_pool_stats stats = pool.stats();
    CHECK(stats.acquired == 10);
    CHECK(stats.reused == 4);
    release(pool, again);
}

TEST_CASE("the chunk released last is handed out first") {
    host_backend backend;
    pool_type pool{backend};
    const auto first = acquire(pool, 3);
    pool.release(first[2]);
    pool.release(first[1]);
    pool.release(first[0]);
    const auto second = acquire(pool, 3);
    CHECK(second == first);
    release(pool, second);
}

TEST_CASE("acquiring nothing changes nothing") {
    host_backend backend;
    pool_type pool{backend, {.limit = page}};
    CHECK(pool.acquire(std::span<chunk>{}));
    CHECK(pool.prefill(0));
    check_figures(pool, 0, 0);
    CHECK(pool.stats().acquired == 0);
}

TEST_CASE("acquire beyond the limit is refused whole") {
    host_backend backend;
    pool_type pool{backend, {.limit = 4 * page}};
    auto held = acquire(pool, 2);
    std::array<chunk, 3> wanted{};
    const status refusal = pool.acquire(wanted);
    CHECK(refusal.code() == errc::limit_exceeded);
    CHECK(std::all_of(wanted.begin(), wanted.end(), [](chunk one) { return !one; }));
    check_figures(pool, 2, 0);
    CHECK(pool.stats().acquired == 2);

    const auto rest = acquire(pool, 2);
    check_figures(pool, 4, 0);
    release(pool, rest);
    CHECK(pool.acquire(wanted).code() == errc::limit_exceeded);
    check_figures(pool, 2, 2);
    release(pool, held);
    CHECK(pool.acquire(wanted));
    check_figures(pool, 3, 1);
    for (const chunk one : wanted)
        pool.release(one);
}

TEST_CASE("a limit that is no multiple of the chunk size counts whole chunks only") {
    host_backend backend;
    pool_type pool{backend, {.limit = 3 * page - 1_B}};
    CHECK(pool.prefill(3).code() == errc::limit_exceeded);
    CHECK(pool.prefill(2));
    check_figures(pool, 0, 2);
    pool_type tiny{backend, {.limit = 1_B}};
    CHECK(tiny.prefill(1).code() == errc::limit_exceeded);
}

TEST_CASE("absurd counts are refused without trying") {
    host_backend backend;
    pool_type pool{backend, {.limit = 8 * page}};
    REQUIRE(pool.prefill(2));
    CHECK(pool.prefill(std::numeric_limits<std::size_t>::max()).code() == errc::limit_exceeded);
    CHECK(pool.prefill(std::numeric_limits<std::size_t>::max() / 2).code() == errc::limit_exceeded);
    check_figures(pool, 0, 2);
}

TEST_CASE("acquire that the backend cannot serve leaves the pool as it was") {
    host_backend backend{{.capacity = 5 * page}};
    pool_type pool{backend};
    const auto held = acquire(pool, 2);
    REQUIRE(pool.prefill(1));
    std::array<chunk, 5> wanted{};
    const status refusal = pool.acquire(wanted);
    CHECK(refusal.code() == errc::out_of_memory);
    CHECK(refusal.error().where == verb::create);
    check_figures(pool, 2, 1);
    CHECK(pool.stats().created_high_watermark == 3 * page);
    release(pool, held);
}

TEST_CASE("prefill creates free chunks up to the count, and never gives any back") {
    host_backend backend;
    pool_type pool{backend};
    REQUIRE(pool.prefill(5));
    check_figures(pool, 0, 5);
    REQUIRE(pool.prefill(2));
    check_figures(pool, 0, 5);
    const auto held = acquire(pool, 4);
    CHECK(pool.stats().reused == 4);
    check_figures(pool, 4, 1);
    REQUIRE(pool.prefill(2));
    check_figures(pool, 4, 2);
    release(pool, held);
}

TEST_CASE("trim gives free chunks back to the kernel and leaves those in use") {
    host_backend backend;
    pool_type pool{backend};
    const auto held = acquire(pool, 3);
    REQUIRE(pool.prefill(4));
    REQUIRE(pool.trim(6));
    check_figures(pool, 3, 4);
    REQUIRE(pool.trim(1));
    check_figures(pool, 3, 1);
    REQUIRE(pool.trim());
    check_figures(pool, 3, 0);
    REQUIRE(pool.trim());
    release(pool, held);
    REQUIRE(pool.trim());
    check_figures(pool, 0, 0);
}

TEST_CASE("the high watermarks remember the most that was in use and the most that was created") {
    host_backend backend;
    pool_type pool{backend};
    release(pool, acquire(pool, 3));
    REQUIRE(pool.prefill(7));
    REQUIRE(pool.trim());
    const auto held = acquire(pool, 2);
    CHECK(pool.stats().high_watermark == 3 * page);
    CHECK(pool.stats().created_high_watermark == 7 * page);
    release(pool, held);
}

TEST_CASE("the limit moves while chunks are in use") {
    host_backend backend;
    pool_type pool{backend, {.limit = 4 * page}};
    auto held = acquire(pool, 3);

    SECTION("up, and more can be acquired") {
        REQUIRE(pool.resize_limit(6 * page));
        CHECK(pool.prefill(3));
        CHECK(pool.prefill(4).code() == errc::limit_exceeded);
        check_figures(pool, 3, 3);
    }
    SECTION("down to what is in use, and free chunks go back") {
        REQUIRE(pool.prefill(1));
        REQUIRE(pool.resize_limit(3 * page));
        CHECK(pool.stats().limit == 3 * page);
        check_figures(pool, 3, 0);
        CHECK(pool.prefill(1).code() == errc::limit_exceeded);
    }
    SECTION("not below what is in use") {
        REQUIRE(pool.prefill(1));
        const status refusal = pool.resize_limit(2 * page);
        CHECK(refusal.code() == errc::limit_exceeded);
        CHECK(refusal.error().where == verb::resize_limit);
        CHECK(pool.stats().limit == 4 * page);
        check_figures(pool, 3, 1);
    }
    SECTION("away") {
        REQUIRE(pool.resize_limit(0_B));
        CHECK(pool.prefill(20));
        check_figures(pool, 3, 20);
    }
    SECTION("down between free chunks: only the excess goes back") {
        REQUIRE(pool.resize_limit(0_B));
        REQUIRE(pool.prefill(9));
        REQUIRE(pool.resize_limit(8 * page + 1_B));
        check_figures(pool, 3, 5);
    }
    release(pool, held);
}

TEST_CASE("a shared chunk becomes free with its last reference") {
    host_backend backend;
    pool_type pool{backend};
    const auto held = acquire(pool, 1);
    CHECK(pool.references(held[0]) == 1);
    pool.retain(held[0]);
    pool.retain(held[0]);
    CHECK(pool.references(held[0]) == 3);
    pool.release(held[0]);
    pool.release(held[0]);
    CHECK(pool.references(held[0]) == 1);
    check_figures(pool, 1, 0);
    REQUIRE(pool.trim());
    check_figures(pool, 1, 0);
    pool.release(held[0]);
    check_figures(pool, 0, 1);
}

TEST_CASE("a pool counts the references beyond the first to each chunk") {
    host_backend backend;
    pool_type pool{backend};
    const auto held = acquire(pool, 4);
    CHECK(pool.stats().aliases == 0);
    CHECK(pool.count_shared(held) == 0);
    pool.retain(held[0]);
    pool.retain(held[0]);
    pool.retain(held[2]);
    CHECK(pool.stats().aliases == 3);
    CHECK(pool.count_shared(held) == 2);
    CHECK(pool.verify());
    pool.release(held[0]);
    pool.release(held[2]);
    CHECK(pool.stats().aliases == 1);
    CHECK(pool.count_shared(held) == 1);
    pool.release(held[0]);
    release(pool, held);
    CHECK(pool.stats().aliases == 0);
    CHECK(pool.verify());
}

TEST_CASE("chunks of several pools on one backend are distinct and counted together") {
    host_backend backend;
    pool_type small{backend};
    pool_type large{backend, {.chunk_size = 64_KiB}};
    const auto few = acquire(large, 2);
    const auto many = acquire(small, 3);
    CHECK(backend.physical_bytes() == 2 * 64_KiB + 3 * page);
    CHECK(backend.kernel_physical_bytes() == backend.physical_bytes());
    std::vector<host_chunk> handles;
    for (const chunk one : few)
        handles.push_back(one.handle());
    for (const chunk one : many)
        handles.push_back(one.handle());
    for (std::size_t one = 0; one < handles.size(); ++one)
        CHECK(std::count(handles.begin(), handles.end(), handles[one]) == 1);
    release(large, few);
    release(small, many);
}

TEST_CASE("a pool that goes gives every chunk back to the kernel") {
    host_backend backend;
    {
        pool_type pool{backend};
        REQUIRE(pool.prefill(9));
        release(pool, acquire(pool, 4));
        CHECK(backend.kernel_physical_bytes() == 9 * page);
    }
    CHECK(backend.physical_bytes() == 0_B);
    CHECK(backend.kernel_physical_bytes() == 0_B);
}
