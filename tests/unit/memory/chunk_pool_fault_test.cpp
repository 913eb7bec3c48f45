// SPDX-License-Identifier: Apache-2.0
//
// Every operation of a pool with its backend calls failing, one after another. After each failure the pool's
// figures are what they were, the kernel agrees, and the next attempt works.
#include "support/catch.hpp"
#include "support/error_codes.hpp"
#include "support/fault_loop.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/memory/chunk_pool.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

using namespace vtensor;
using vtensor::adaptors::failing;
using vtensor::testing::every_error_code;
using vtensor::testing::fault_length;
using vtensor::testing::for_each_failing_call;

namespace {

using failing_host = failing<host_backend>;
using pool_type = chunk_pool<failing_host>;
using chunk = pool_type::chunk;

constexpr bytes page = 4_KiB;

/// Two chunks in use, two free, on a backend that can be made to fail.
struct scene {
    host_backend host;
    failing_host backend{host};
    std::unique_ptr<pool_type> pool = std::make_unique<pool_type>(backend);
    std::vector<chunk> held = std::vector<chunk>(2);

    scene() {
        REQUIRE(pool->acquire(held));
        REQUIRE(pool->prefill(2));
    }
    ~scene() {
        for (const chunk one : held)
            pool->release(one);
    }
    scene(const scene&) = delete;
    scene& operator=(const scene&) = delete;

    void check(std::size_t in_use, std::size_t free) const {
        const chunk_pool_stats stats = pool->stats();
        CHECK(stats.in_use == in_use * page);
        CHECK(stats.free == free * page);
        CHECK(stats.created == (in_use + free) * page);
        CHECK(host.physical_bytes() == stats.created);
        CHECK(host.kernel_physical_bytes() == stats.created);
        CHECK(stats.created_high_watermark >= stats.created);
        CHECK(pool->verify());
    }
};

} // namespace

TEST_CASE("an acquire whose backend calls fail changes nothing, whatever the failure, also where an undo "
          "fails once") {
    for (const errc code : every_error_code()) {
        for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
            scene faulty;
            std::array<chunk, 6> wanted{};
            status last;
            const std::size_t failed = for_each_failing_call(
                faulty.backend, [&] { return last = faulty.pool->acquire(wanted); },
                [&](std::size_t) {
                    CHECK(last.code() == code);
                    CHECK(std::all_of(wanted.begin(), wanted.end(), [](chunk one) { return !one; }));
                    CHECK(faulty.pool->stats().acquired == 2);
                    CHECK(faulty.pool->stats().high_watermark == 2 * page);
                    faulty.check(2, 2);
                },
                code, length);
            CHECK(failed == 4);
            faulty.check(8, 0);
            for (const chunk one : wanted)
                faulty.pool->release(one);
        }
    }
}

TEST_CASE("a prefill whose backend calls fail changes nothing, and the next attempt works") {
    for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
        scene faulty;
        const std::size_t failed = for_each_failing_call(
            faulty.backend, [&] { return faulty.pool->prefill(5); },
            [&](std::size_t) {
                faulty.check(2, 2);
                REQUIRE(faulty.pool->prefill(5));
                faulty.check(2, 5);
                REQUIRE(faulty.pool->trim(2));
                faulty.check(2, 2);
            },
            errc::out_of_memory, length);
        CHECK(failed == 3);
        faulty.check(2, 5);
    }
}

TEST_CASE("chunks that a failed acquire cannot give back stay in the pool, counted and free for use") {
    scene faulty;
    std::array<chunk, 6> wanted{};
    faulty.backend.fail_from(3, errc::native_failure); // two chunks come, everything after fails
    CHECK(faulty.pool->acquire(wanted).code() == errc::native_failure);
    faulty.backend.disarm();
    faulty.check(2, 4);
    REQUIRE(faulty.pool->trim());
    faulty.check(2, 0);
}

TEST_CASE("a trim that the backend stops keeps the rest free and says why") {
    for (const errc code : every_error_code()) {
        scene faulty;
        REQUIRE(faulty.pool->prefill(5));
        status last;
        const std::size_t failed = for_each_failing_call(
            faulty.backend, [&] { return last = faulty.pool->trim(1); },
            [&](std::size_t k) {
                CHECK(last.code() == code);
                CHECK(last.error().where == verb::trim);
                faulty.check(2, 5 - (k - 1));
                REQUIRE(faulty.pool->trim(1));
                faulty.check(2, 1);
                REQUIRE(faulty.pool->prefill(5));
            },
            code);
        CHECK(failed == 4);
        faulty.check(2, 1);
    }
}

TEST_CASE("a limit whose excess the backend does not take stays as it was") {
    for (const errc code : every_error_code()) {
        scene faulty;
        REQUIRE(faulty.pool->resize_limit(7 * page));
        REQUIRE(faulty.pool->prefill(5));
        status last;
        const std::size_t failed = for_each_failing_call(
            faulty.backend, [&] { return last = faulty.pool->resize_limit(4 * page); },
            [&](std::size_t k) {
                CHECK(last.code() == code);
                CHECK(last.error().where == verb::resize_limit);
                CHECK(faulty.pool->stats().limit == 7 * page);
                faulty.check(2, 5 - (k - 1));
                REQUIRE(faulty.pool->resize_limit(4 * page));
                faulty.check(2, 2);
                REQUIRE(faulty.pool->resize_limit(7 * page));
                REQUIRE(faulty.pool->prefill(5));
            },
            code);
        CHECK(failed == 3);
        CHECK(faulty.pool->stats().limit == 4 * page);
        faulty.check(2, 2);
    }
}

TEST_CASE("making a pool, and taking and giving references, calls no backend") {
    scene faulty;
    faulty.backend.fail_from(1);
    CHECK(pool_type::try_create(faulty.backend, {}));
    std::array<chunk, 2> reused{};
    REQUIRE(faulty.pool->acquire(reused));
    faulty.pool->retain(reused[0]);
    faulty.pool->release(reused[0]);
    faulty.pool->release(reused[0]);
    faulty.pool->release(reused[1]);
    CHECK(faulty.backend.calls() == 0);
    faulty.backend.disarm();
    faulty.check(2, 2);
}

TEST_CASE("a pool that goes gives everything back although each backend call fails once") {
    std::size_t failures = 1;
    std::size_t loops = 0;
    for (std::size_t k = 1; failures != 0; ++k, ++loops) {
        host_backend host;
        failing_host backend{host};
        {
            pool_type pool{backend};
            REQUIRE(pool.prefill(4));
            backend.fail_call(k);
        }
        failures = backend.failures();
        CHECK(host.physical_bytes() == 0_B);
        CHECK(host.kernel_physical_bytes() == 0_B);
    }
    CHECK(loops == 5); // four chunks, and the loop that met no failure
}

TEST_CASE("a pool whose backend takes nothing back goes all the same, and the backend keeps the memory") {
    host_backend host;
    failing_host backend{host};
    {
        pool_type pool{backend};
        REQUIRE(pool.prefill(3));
        backend.fail_from(1, errc::native_failure);
    }
    CHECK(backend.failures() == 6);
    CHECK(host.kernel_physical_bytes() == 3 * page);
}
