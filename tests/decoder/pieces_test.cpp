// SPDX-License-Identifier: Apache-2.0
//
// The small parts: sampler, UTF-8, bytes on the command line, products.
#include <support/catch.hpp>

#include "app/options.hpp"
#include "model/products.hpp"
#include "model/sampler.hpp"
#include "model/thread_pool.hpp"
#include "support/refusal.hpp"
#include "text/utf8.hpp"

#include <vtensor/core/element.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using namespace decoder;
using Catch::Approx;
using decoder_test::refusal_of;

namespace {

/// How often each of the tokens is drawn in `draws` draws.
std::vector<int> histogram(const sampling& how, const std::vector<float>& logits, int draws) {
    sampler choose{how};
    std::vector<int> counts(logits.size());
    for (int i = 0; i < draws; ++i)
        ++counts[static_cast<std::size_t>(choose.choose(logits))];
    return counts;
}

/// A random matrix as bytes of a type, and the numbers that those bytes mean.
struct random_matrix {
    std::vector<std::byte> storage;
    std::vector<double> exact;
    weight stored;
};

random_matrix make_matrix(element_type type, std::size_t height, std::size_t width, std::mt19937& random) {
    std::normal_distribution<float> normal;
    const std::size_t shift = width == 5 ? 1 : 0; // one matrix lies misaligned
    random_matrix made{std::vector<std::byte>(height * width * size_of(type) + shift), {}, {}};
    std::byte* const start = made.storage.data() + shift;
    for (std::size_t i = 0; i < height * width; ++i) {
        const float value = normal(random);
        const auto half = vtensor::from_float<vtensor::float16>(value);
        const auto brain = vtensor::from_float<vtensor::bfloat16>(value);
        if (type == element_type::f32) {
            std::memcpy(start + 4 * i, &value, 4);
            made.exact.push_back(static_cast<double>(value));
        } else if (type == element_type::f16) {
            std::memcpy(start + 2 * i, &half.bits, 2);
            made.exact.push_back(static_cast<double>(to_float(half)));
        } else {
            std::memcpy(start + 2 * i, &brain.bits, 2);
            made.exact.push_back(static_cast<double>(to_float(brain)));
        }
    }
    made.stored = {type, {height, width}, start};
    return made;
}

std::string shown(std::string_view bytes) {
    utf8_stream stream;
    const std::string text = stream.push(bytes);
    return text + stream.finish();
}

} // namespace

TEST_CASE("Temperature 0 takes the likeliest token, the first of equals") {
    sampler greedy{{.temperature = 0, .top_p = 0.5, .seed = 1}};
    CHECK(greedy.choose(std::vector{0.0F, 3.0F, -1.0F, 3.0F}) == 1);
}

TEST_CASE("Draws follow the softmax at the temperature") {
    constexpr int draws = 200'000;
    const auto counts = histogram({.temperature = 2, .top_p = 1, .seed = 7}, {1.0F, 0.0F, -1.0F}, draws);
    const double sum = std::exp(0.5) + 1 + std::exp(-0.5);
    for (std::size_t token = 0; token < 3; ++token)
        CHECK(counts[token] / double{draws} ==
              Approx(std::exp(0.5 - 0.5 * static_cast<double>(token)) / sum).margin(0.005));
}

TEST_CASE("Top-p draws only among the fewest tokens that reach the probability") {
    constexpr int draws = 20'000;
    const std::vector<float> logits{std::log(0.15F), std::log(0.5F), std::log(0.05F), std::log(0.3F)};
    CHECK(histogram({.temperature = 1, .top_p = 0.4, .seed = 3}, logits, draws)[1] == draws);
    const auto two = histogram({.temperature = 1, .top_p = 0.75, .seed = 3}, logits, draws);
    CHECK(two[0] + two[2] == 0);
    CHECK(two[1] / double{draws} == Approx(0.625).margin(0.015));
}

TEST_CASE("The same seed draws the same tokens, another seed others") {
    const std::vector<float> logits(50, 0.0F);
    const auto draw = [&](std::uint64_t seed) {
        sampler draws{{.temperature = 1, .top_p = 1, .seed = seed}};
        std::vector<int> tokens;
        for (int i = 0; i < 32; ++i)
            tokens.push_back(draws.choose(logits));
        return tokens;
    };
    CHECK(draw(5) == draw(5));
    CHECK(draw(5) != draw(6));
}

TEST_CASE("Logits that are not finite are refused") {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
        CHECK(decoder_test::is_one_line(refusal_of([&] {
            sampler greedy{sampling{}};
            (void)greedy.choose(std::vector{0.0F, bad});
        })));
}

TEST_CASE("A UTF-8 stream never shows part of a character and loses none") {
    const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
    for (std::size_t step = 1; step <= text.size(); ++step) {
        utf8_stream stream;
        std::string all;
        for (std::size_t at = 0; at < text.size(); at += step) {
            const std::string part = stream.push(text.substr(at, step));
            for (std::size_t i = 0; i < part.size();) {
                const auto head = first_character(std::string_view{part}.substr(i));
                REQUIRE(head.is_valid);
                i += head.length;
            }
            all += part;
        }
        CHECK(all + stream.finish() == text);
    }
}

TEST_CASE("Invalid UTF-8 is shown as Unicode recommends, one U+FFFD for each maximal subpart") {
    const std::string bad = "\xEF\xBF\xBD";
    CHECK(shown("\x80") == bad);
    CHECK(shown("\xC3(") == bad + "(");
    CHECK(shown("\xE2\x82") == bad);
    CHECK(shown("\xE2\x82(") == bad + "(");
    CHECK(shown("\xC0\x80") == bad + bad);                     // overlong
    CHECK(shown("\xED\xA0\x80") == bad + bad + bad);           // surrogate
    CHECK(shown("\xF4\x90\x80\x80") == bad + bad + bad + bad); // beyond U+10FFFF
    CHECK(shown("\xF0\x90\xC3\xA9") == bad + "\xC3\xA9");      // cut by a good character
}

TEST_CASE("Numbers of bytes are read with and without units, and refused where they do not fit") {
    CHECK(parse_bytes("65536") == vtensor::bytes{65536});
    CHECK(parse_bytes("64KiB") == vtensor::bytes{65536});
    CHECK(parse_bytes("2M") == vtensor::bytes{2U << 20});
    CHECK(parse_bytes("1GiB") == vtensor::bytes{1U << 30});
    for (const char* const bad :
         {"", "x", "-1", "1.5M", "64kb", "5 M", "18446744073709551616", "2000000000G", "1e9"})
        CHECK(!parse_bytes(bad).has_value());
}

TEST_CASE("Products agree with a loop in double precision and do not depend on count or threads") {
    constexpr std::size_t count = 4;
    const auto type = GENERATE(element_type::f32, element_type::f16, element_type::bf16);
    const auto [height, width] =
        GENERATE(table<std::size_t, std::size_t>({{1, 1}, {3, 5}, {64, 256}, {257, 1025}, {40, 2500}}));
    CAPTURE(height, width, static_cast<int>(type));
    std::mt19937 random{11};
    const auto matrix = make_matrix(type, height, width, random);
    std::vector<float> x(count * width);
    for (float& value : x)
        value = std::normal_distribution<float>{}(random);

    thread_pool one{1};
    thread_pool three{3};
    std::vector<float> together(count * height);
    std::vector<float> threaded(count * height);
    multiply(matrix.stored, x, count, together, one);
    multiply(matrix.stored, x, count, threaded, three);
    CHECK(threaded == together);

    double worst = 0;
    std::vector<float> single(height);
    for (std::size_t i = 0; i < count; ++i) {
        multiply(matrix.stored, std::span{x}.subspan(i * width, width), 1, single, three);
        CHECK(std::equal(single.begin(), single.end(),
                         together.begin() + static_cast<std::ptrdiff_t>(i * height)));
        for (std::size_t row = 0; row < height; ++row) {
            double truth = 0;
            for (std::size_t k = 0; k < width; ++k)
                truth += matrix.exact[row * width + k] * static_cast<double>(x[i * width + k]);
            worst = std::max(worst, std::abs(truth - static_cast<double>(single[row])));
        }
    }
    CHECK(worst < 2e-4);
}
