// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <vtensor/core/element.hpp>

#include <cmath>
#include <limits>

using namespace vtensor;

namespace {

/// binary16 by its definition: (-1)^s · 2^(e-15) · (1 + m/1024), subnormals in units of 2^-24.
double decode_binary16(std::uint16_t bits) {
    const int exponent = (bits >> 10) & 0x1F;
    const int mantissa = bits & 0x3FF;
    const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
    if (exponent == 0x1F)
        return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                             : sign * std::numeric_limits<double>::infinity();
    if (exponent == 0)
        return sign * std::ldexp(mantissa, -24);
    return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

} // namespace

TEST_CASE("every float16 converts to the float its definition gives and back to itself") {
    for (unsigned bits = 0; bits <= 0xFFFF; ++bits) {
        const float16 half{static_cast<std::uint16_t>(bits)};
        const double expected = decode_binary16(half.bits);
        const float actual = to_float(half);
        if (std::isnan(expected)) {
            REQUIRE(std::isnan(actual));
            REQUIRE(std::isnan(to_float(from_float<float16>(actual))));
            continue;
        }
        REQUIRE(static_cast<double>(actual) == expected);
        REQUIRE(std::signbit(actual) == std::signbit(expected));
        REQUIRE(from_float<float16>(actual) == half);
    }
}

TEST_CASE("a float between two float16 values rounds to the nearer one, ties to even") {
    for (unsigned bits = 0; bits < 0x7BFF; ++bits) {
        const float16 low{static_cast<std::uint16_t>(bits)};
        const float16 high{static_cast<std::uint16_t>(bits + 1)};
        const float middle = (to_float(low) + to_float(high)) / 2; // exact: 24 bits of mantissa are plenty
        REQUIRE(from_float<float16>(middle) == ((bits & 1u) != 0 ? high : low));
        REQUIRE(from_float<float16>(std::nextafter(middle, 0.0f)) == low);
        REQUIRE(from_float<float16>(std::nextafter(middle, 1e9f)) == high);
    }
    CHECK(from_float<float16>(65519.0f) == float16{0x7BFF});
    CHECK(from_float<float16>(65520.0f) == float16{0x7C00});
    CHECK(from_float<float16>(-1e30f) == float16{0xFC00});
    CHECK(from_float<float16>(0x1p-25f) == float16{0});
    CHECK(from_float<float16>(std::nextafter(0x1p-25f, 1.0f)) == float16{1});
}

TEST_CASE("bfloat16 keeps the upper half of a float, rounded to nearest even") {
    for (unsigned bits = 0; bits <= 0xFFFF; ++bits) {
        const bfloat16 value{static_cast<std::uint16_t>(bits)};
        const float wide = to_float(value);
        if (std::isnan(wide)) {
            REQUIRE(std::isnan(to_float(from_float<bfloat16>(wide))));
            continue;
        }
        REQUIRE(from_float<bfloat16>(wide) == value);
    }
    CHECK(from_float<bfloat16>(1.00390625f) == bfloat16{0x3F80}); // 1 + 2^-8: a tie, down to even
    CHECK(from_float<bfloat16>(1.01171875f) == bfloat16{0x3F82}); // 1 + 3·2^-8: a tie, up to even
    CHECK(std::isinf(to_float(from_float<bfloat16>(std::numeric_limits<float>::max()))));
}
