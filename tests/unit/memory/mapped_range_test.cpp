// SPDX-License-Identifier: Apache-2.0
//
// mapped_range: growth and shrinking by whole pages, with the kernel's figures after each step.
#include "support/catch.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/memory/mapped_range.hpp>

#include <cstring>
#include <limits>
#include <utility>

using namespace vtensor;
using vtensor::testing::kernel_range;

namespace {

using pool_type = chunk_pool<host_backend>;
using range_type = mapped_range<pool_type>;

void check_pages(const range_type& range, std::size_t pages) {
    const bytes size = pages * range.page_size();
    const auto kernel = kernel_range(range.start(), range.reserved_bytes());
    CHECK(range.accessible() == page_count{pages});
    CHECK(range.mapped() == page_count{pages});
    CHECK(kernel.memory_file == size);
    CHECK(kernel.accessible == size);
    CHECK(kernel.covered() == range.reserved_bytes());
    CHECK(range.verify());
}

} // namespace

static_assert(!std::is_copy_constructible_v<range_type>);
static_assert(std::is_nothrow_move_constructible_v<range_type>);

TEST_CASE("a mapped range grows and shrinks page by page and the kernel agrees") {
    host_backend backend;
    pool_type pool{backend, {.chunk_size = 8_KiB}};
    {
        auto range = *range_type::create(pool, 32_pages, owner_id{});
        CHECK(range.limit() == 32_pages);
        CHECK(range.reserved_bytes() == 32 * 8_KiB);
        check_pages(range, 0);
        for (const std::size_t pages : {1u, 2u, 7u, 32u}) {
            REQUIRE(range.grow_to(page_count{pages}));
            check_pages(range, pages);
        }
        std::memset(range.start().to_pointer(), 1, range.reserved_bytes().count());
        for (const std::size_t pages : {31u, 5u, 1u, 0u}) {
            REQUIRE(range.shrink_to(page_count{pages}));
            check_pages(range, pages);
            CHECK(pool.stats().in_use == pages * 8_KiB);
        }
        CHECK(pool.stats().free == 32 * 8_KiB);
        REQUIRE(range.grow_to(3_pages));
    }
    CHECK(pool.stats().in_use == 0_B);
    CHECK(backend.mapped_bytes() == 0_B);
    CHECK(backend.reserved_bytes() == 0_B);
}

TEST_CASE("growing to less and shrinking to more change nothing") {
    host_backend backend;
    pool_type pool{backend};
    auto range = *range_type::create(pool, 8_pages, owner_id{});
    REQUIRE(range.grow_to(4_pages));
    REQUIRE(range.grow_to(2_pages));
    check_pages(range, 4);
    REQUIRE(range.shrink_to(6_pages));
    REQUIRE(range.shrink_to(page_count{std::numeric_limits<std::size_t>::max()}));
    check_pages(range, 4);
}

TEST_CASE("growing beyond the limit of the range is refused") {
    host_backend backend;
    pool_type pool{backend};
    auto range = *range_type::create(pool, 8_pages, owner_id{});
    REQUIRE(range.grow_to(3_pages));
    const status refusal = range.grow_to(9_pages);
    CHECK(refusal.code() == errc::limit_exceeded);
    CHECK(refusal.error().where == verb::grow);
    check_pages(range, 3);
    REQUIRE(range.grow_to(8_pages));
    check_pages(range, 8);
}

TEST_CASE("content stays where it is while the range grows and shrinks behind it") {
    host_backend backend;
    pool_type pool{backend};
    auto range = *range_type::create(pool, 16_pages, owner_id{});
    REQUIRE(range.grow_to(2_pages));
    auto* const data = range.start().to_pointer<unsigned char>();
    for (std::size_t byte = 0; byte < 8192; ++byte)
        data[byte] = static_cast<unsigned char>(byte * 7);
    for (const std::size_t pages : {16u, 3u, 9u, 2u}) {
        const page_count wanted{pages};
        const status outcome = wanted >= range.mapped() ? range.grow_to(wanted) : range.shrink_to(wanted);
        REQUIRE(outcome);
        bool same = true;
        for (std::size_t byte = 0; byte < 8192; ++byte)
            same = same && data[byte] == static_cast<unsigned char>(byte * 7);
        CHECK(same);
    }
}

TEST_CASE("a growth that runs out of memory or of mappings leaves range and pool as they were") {
    SECTION("memory") {
        host_backend backend{{.capacity = 5 * 4_KiB}};
        pool_type pool{backend};
        auto range = *range_type::create(pool, 8_pages, owner_id{});
        REQUIRE(range.grow_to(2_pages));
        CHECK(range.grow_to(6_pages).code() == errc::out_of_memory);
        check_pages(range, 2);
        CHECK(pool.stats().created == 2 * 4_KiB);
        REQUIRE(range.grow_to(5_pages));
        check_pages(range, 5);
    }
    SECTION("mappings") {
        host_backend backend{{.max_mappings = 5}};
        pool_type pool{backend};
        auto range = *range_type::create(pool, 8_pages, owner_id{});
        REQUIRE(range.grow_to(2_pages));
        CHECK(range.grow_to(6_pages).code() == errc::too_many_mappings);
        check_pages(range, 2);
        CHECK(pool.stats().in_use == 2 * 4_KiB);
        CHECK(backend.mapping_count() == 2);
        REQUIRE(range.grow_to(5_pages));
        check_pages(range, 5);
    }
}

TEST_CASE("a range of no pages, or of more than there are addresses, is refused") {
    host_backend backend;
    pool_type pool{backend};
    CHECK(range_type::create(pool, 0_pages, owner_id{}).code() == errc::invalid_argument);
    for (const unsigned shift : {51u, 52u, 53u, 60u, 63u}) {
        CAPTURE(shift);
        const page_count absurd{(std::size_t{1} << shift) + 1}; // times 4 KiB it may wrap to a small number
        CHECK(range_type::create(pool, absurd, owner_id{}).code() == errc::out_of_addresses);
    }
    CHECK(range_type::create(pool, page_count{std::numeric_limits<std::size_t>::max()}, owner_id{}).code() ==
          errc::out_of_addresses);
    CHECK(backend.reserved_bytes() == 0_B);
}

TEST_CASE("a moved range carries pages and addresses on, and what it left behind goes in peace") {
    host_backend backend;
    pool_type pool{backend};
    auto range = *range_type::create(pool, 8_pages, owner_id{});
    REQUIRE(range.grow_to(3_pages));
    const address start = range.start();
    {
        range_type moved{std::move(range)};
        CHECK(moved.start() == start);
        check_pages(moved, 3);
        CHECK(range.mapped() == 0_pages); // NOLINT(bugprone-use-after-move): what is tested
        CHECK(range.verify());
    }
    CHECK(backend.reserved_bytes() == 0_B);
    CHECK(backend.mapped_bytes() == 0_B);
    CHECK(pool.stats().in_use == 0_B);
}

TEST_CASE("a reused run of chunks is mapped in file order, so that the kernel keeps one mapping for it") {
    host_backend backend;
    pool_type pool{backend};
    auto range = *range_type::create(pool, 64_pages, owner_id{});
    for (int round = 0; round < 3; ++round) {
        REQUIRE(range.grow_to(64_pages));
        CHECK(vtensor::testing::memory_file_lines() == 1);
        REQUIRE(range.shrink_to(0_pages));
        CHECK(vtensor::testing::memory_file_lines() == 0);
    }
}
