// SPDX-License-Identifier: Apache-2.0
//
// row_shape: the size of a row, also of one that no machine could hold.
#include "support/catch.hpp"

#include <vtensor/row_shape.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

using vtensor::row_shape;

static_assert(std::is_constructible_v<row_shape, int, int, int, int, int, int, int>);
static_assert(!std::is_constructible_v<row_shape, int, int, int, int, int, int, int, int>);
static_assert(!std::is_constructible_v<row_shape, double>);
static_assert(std::is_trivially_copyable_v<row_shape>);

TEST_CASE("the size of a row is the product of its extents, and one without extents") {
    STATIC_REQUIRE(row_shape{}.size() == 1);
    STATIC_REQUIRE(row_shape{}.rank() == 0);
    STATIC_REQUIRE(row_shape{5}.size() == 5);
    STATIC_REQUIRE(row_shape{8, 128}.size() == 1024);
    STATIC_REQUIRE(row_shape{1, 2, 3, 4, 5, 6, 7}.size() == 5040);
    STATIC_REQUIRE(row_shape{1, 2, 3, 4, 5, 6, 7}.rank() == 7);
    STATIC_REQUIRE(row_shape{8u, std::int16_t{128}, std::size_t{2}}[1] == 128);
}

TEST_CASE("an extent of zero or less makes the row empty") {
    CHECK(row_shape{0}.size() == 0);
    CHECK(row_shape{4, 0, 4}.size() == 0);
    CHECK(row_shape{-1}.size() == 0);
    CHECK(row_shape{-3, -5}.size() == 0);
    CHECK(row_shape{std::numeric_limits<std::int64_t>::min(), 2}.size() == 0);
}

TEST_CASE("a product that does not fit makes the row empty instead of small") {
    constexpr std::size_t big = std::size_t{1} << 32;
    CHECK(row_shape{big, big}.size() == 0);
    CHECK(row_shape{big, big, 2}.size() == 0);
    CHECK(row_shape{big, big - 1}.size() == big * (big - 1));
    CHECK(row_shape{std::numeric_limits<std::size_t>::max()}.size() ==
          std::numeric_limits<std::size_t>::max());
    CHECK(row_shape{std::numeric_limits<std::size_t>::max(), 2}.size() == 0);
    CHECK(row_shape{big, big, 0}.size() == 0);
}

TEST_CASE("shapes are equal where rank and extents are") {
    CHECK(row_shape{2, 3} == row_shape{2u, 3u});
    CHECK_FALSE(row_shape{2, 3} == row_shape{3, 2});
    CHECK_FALSE(row_shape{} == row_shape{0});
    CHECK_FALSE(row_shape{2} == row_shape{2, 0});
}
