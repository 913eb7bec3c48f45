// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <vtensor/core/units.hpp>

#include <type_traits>

using namespace vtensor;

template <class A, class B>
concept summable = requires(A a, B b) {
    a + b;
};

static_assert(!std::is_convertible_v<std::size_t, bytes>);
static_assert(!std::is_convertible_v<bytes, std::size_t>);
static_assert(!std::is_constructible_v<bytes, page_count>);
static_assert(!summable<bytes, page_count>);
static_assert(!summable<page_index, page_index>);
static_assert(!summable<address, address>);
static_assert(summable<page_index, page_count>);
static_assert(summable<address, bytes>);
static_assert(sizeof(bytes) == sizeof(std::size_t) && std::is_trivially_copyable_v<bytes>);

TEST_CASE("units convert only where the product has a meaning") {
    STATIC_REQUIRE(3_pages * 2_MiB == 6_MiB);
    STATIC_REQUIRE(page_index{7} - page_index{4} == 3_pages);
    STATIC_REQUIRE(page_index{7} + 2_pages == page_index{9});
    STATIC_REQUIRE(address{4096} + 4_KiB == address{8192});
    STATIC_REQUIRE(address{8192} - address{4096} == 4_KiB);
    STATIC_REQUIRE(1_GiB / 2_MiB == 512);
    STATIC_REQUIRE(5_KiB % 4_KiB == 1_KiB);
}

TEST_CASE("rounding up counts every page that is touched and no other") {
    STATIC_REQUIRE(pages_for(0_B, 4_KiB) == 0_pages);
    STATIC_REQUIRE(pages_for(1_B, 4_KiB) == 1_pages);
    STATIC_REQUIRE(pages_for(4096_B, 4_KiB) == 1_pages);
    STATIC_REQUIRE(pages_for(4097_B, 4_KiB) == 2_pages);
    STATIC_REQUIRE(pages_for(bytes{~std::size_t{0}}, 1_GiB) == page_count{std::size_t{1} << 34});
    STATIC_REQUIRE(round_up(5_MiB, 2_MiB) == 6_MiB);
}

TEST_CASE("sizes are printed in the largest binary unit") {
    CHECK(to_string(0_B) == "0 B");
    CHECK(to_string(1023_B) == "1023 B");
    CHECK(to_string(2_MiB) == "2 MiB");
    CHECK(to_string(1536_MiB) == "1.5 GiB");
    CHECK(to_string(bytes{1024 + 64}) == "1.06 KiB");
    CHECK(to_string(64_TiB) == "64 TiB");
}
