// SPDX-License-Identifier: Apache-2.0
//
// The ring: whatever is appended, the window is one contiguous range of the newest rows; memory is what the
// window needs; a growth that fails changes nothing.
#include "patterns.hpp"
#include "support/catch.hpp"
#include "support/fault_loop.hpp"
#include "support/kernel_figures.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/adaptors/counting.hpp>
#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/ring_tensor.hpp>

#include <optional>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

std::uint32_t word(std::uint64_t at, std::size_t column) {
    return static_cast<std::uint32_t>(at * 2654435761u + column);
}
template <class Ring>
status append_filled(Ring& ring, std::size_t count) {
    const std::uint64_t first = ring.next_position();
    const auto made = ring.try_append(count);
    if (!made)
        return made.status();
    for (std::size_t row = 0; row < count; ++row) {
        for (std::size_t column = 0; column < made->extents[1]; ++column)
            (*made)(row, column) = word(first + row, column);
    }
    return {};
}
template <class Ring>
std::size_t wrong_words(const Ring& ring) {
    std::size_t wrong = 0;
    const auto view = ring.view();
    for (std::size_t row = 0; row < ring.rows(); ++row) {
        for (std::size_t column = 0; column < view.extents[1]; ++column)
            wrong += view(row, column) != word(ring.first_position() + row, column) ? 1u : 0u;
    }
    return wrong;
}

} // namespace

TEST_CASE("a ring holds the newest rows of its window in one range") {
    host_backend host;
    chunk_pool<host_backend> pool{host};
    for (const std::size_t row_words : {64u, 250u, 1024u, 3000u, 1u}) { // rows that fit pages and that do not
        for (const std::size_t window : {1u, 7u, 40u}) {
            INFO("rows of " << row_words << " words, window " << window);
            ring_tensor<std::uint32_t, host_backend> ring{pool, {row_words}, window};
            CHECK(ring.rows() == 0);
            dice random{row_words + window};
            std::uint64_t appended = 0;
            for (int step = 0; step < 60; ++step) {
                const std::size_t count = random.below(window + 1);
                REQUIRE(append_filled(ring, count));
                appended += count;
                CHECK(ring.next_position() == appended);
                CHECK(ring.rows() == std::min<std::uint64_t>(appended, window));
                CHECK(ring.first_position() + ring.rows() == appended);
                CHECK(wrong_words(ring) == 0);
                CHECK(ring.verify());
            }
            CHECK(ring.mapped_bytes() == round_up(ring.row_bytes() * window, 4_KiB));
            CHECK(kernel_memory_file_bytes() == pool.stats().created);
            ring.clear();
            CHECK(ring.rows() == 0);
            REQUIRE(append_filled(ring, 1));
            CHECK(wrong_words(ring) == 0);
        }
    }
    CHECK(host.mapped_bytes() == 0_B);
    CHECK(pool.stats().in_use == 0_B);
}

TEST_CASE("a short ring takes only the memory of its rows") {
    host_backend host;
    chunk_pool<host_backend> pool{host};
    ring_tensor<float, host_backend> ring{pool, {8, 128}, 1000}; // a page a row
    ring.append(3);
    CHECK(ring.mapped_bytes() == 12_KiB);
    CHECK(host.kernel_physical_bytes() == 12_KiB);
    CHECK(ring.view<3>().extents[2] == 128);
    CHECK(ring.try_view<4>().code() == errc::invalid_argument);
    const ring_tensor<float, host_backend> moved{std::move(ring)};
    CHECK(moved.rows() == 3);
    CHECK(moved.mapped_bytes() == 12_KiB);
}

TEST_CASE("a ring refuses what it cannot be") {
    using ring = ring_tensor<float, host_backend>;
    host_backend host;
    chunk_pool<host_backend> pool{host};
    CHECK(ring::try_create(pool, {0}, 4).code() == errc::invalid_argument);
    CHECK(ring::try_create(pool, {4}, 0).code() == errc::invalid_argument);
    CHECK(ring::try_create(pool, {4}, std::size_t{1} << 62).code() == errc::out_of_addresses);
    CHECK_THROWS_AS((ring{pool, {0}, 4}), bad_argument);
    ring small{pool, {4}, 4};
    CHECK(small.try_append(5).code() == errc::limit_exceeded);
    CHECK(small.rows() == 0);
}

TEST_CASE("a full ring calls its backend no more") {
    host_backend host;
    adaptors::counting counted{host};
    chunk_pool<adaptors::counting<host_backend>> pool{counted};
    ring_tensor<std::uint32_t, adaptors::counting<host_backend>> ring{pool, {256}, 10};
    REQUIRE(append_filled(ring, 10));
    REQUIRE(append_filled(ring, 3));
    const auto before = counted.snapshot();
    for (int step = 0; step < 100; ++step)
        REQUIRE(append_filled(ring, 7));
    const auto after = counted.snapshot();
    for (const verb each : {verb::map, verb::unmap, verb::set_access, verb::create, verb::reserve})
        CHECK(after[each].calls == before[each].calls);
    CHECK(wrong_words(ring) == 0);
}

TEST_CASE("a ring that cannot grow is as it was, whichever call fails") {
    using failing_host = adaptors::failing<host_backend>;
    for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
        host_backend host;
        failing_host backend{host};
        chunk_pool<failing_host> pool{backend};
        std::optional<ring_tensor<std::uint32_t, failing_host>> ring;
        const auto set = [&] {
            ring.reset();
            REQUIRE(pool.trim());
            ring.emplace(pool, row_shape{1024}, 8);
            REQUIRE(append_filled(*ring, 3));
        };
        set();
        status last;
        const std::size_t calls = for_each_failing_call(
            backend, [&] { return (last = append_filled(*ring, 5)).ok(); },
            [&](std::size_t) {
                CHECK(last.code() == errc::native_failure);
                CHECK(ring->rows() == 3);
                CHECK(ring->mapped_bytes() == 12_KiB);
                CHECK(pool.stats().in_use == 12_KiB);
                CHECK(pool.stats().created == 12_KiB);
                CHECK(host.kernel_physical_bytes() == 12_KiB);
                CHECK(host.mapping_count() == 6);
                CHECK(ring->verify());
                CHECK(wrong_words(*ring) == 0);
                REQUIRE(append_filled(*ring, 5));
                CHECK(wrong_words(*ring) == 0);
                set();
            },
            errc::native_failure, length);
        CHECK(calls == 17); // five chunks created, mapped twice, and two grants
        backend.fail_call(1, errc::native_failure);
        ring.reset();
        backend.disarm();
        CHECK(host.reserved_bytes() == 0_B);
        CHECK(host.mapped_bytes() == 0_B);
        CHECK(pool.stats().in_use == 0_B);
    }
}
