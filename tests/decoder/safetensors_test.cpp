// SPDX-License-Identifier: Apache-2.0
#include <support/catch.hpp>

#include "io/checkpoint.hpp"
#include "io/safetensors.hpp"
#include "support/refusal.hpp"
#include "support/temporary.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

using namespace decoder;
using Catch::Matchers::ContainsSubstring;
using decoder_test::is_one_line;
using decoder_test::refusal_of;
using decoder_test::temporary_directory;

namespace {

std::string length_prefix(std::uint64_t length) {
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    return bytes;
}

/// A file with this header and as many zero bytes of data.
std::string file_with(const std::string& header, std::size_t data_bytes) {
    return length_prefix(header.size()) + header + std::string(data_bytes, '\0');
}

/// A file with one tensor "a" of these fields.
std::string one(const std::string& fields, std::size_t data_bytes = 8) {
    return file_with(R"({"a":{)" + fields + "}}", data_bytes);
}

/// A file with two tensors that claim these bytes of eight.
std::string two(const std::string& first, const std::string& second) {
    return file_with(R"({"a":{"dtype":"U8",)" + first + R"(},"b":{"dtype":"U8",)" + second + "}}", 8);
}

std::string repeated(const std::string& text, int times) {
    std::string all;
    for (int i = 0; i < times; ++i)
        all += text;
    return all;
}

std::string parse_refusal(const std::string& file) {
    return refusal_of([&] { (void)parse_safetensors(std::as_bytes(std::span{file}), "x.safetensors"); });
}

struct hostile {
    const char* what;
    std::string file;
    const char* says;
};

std::vector<hostile> files_with_broken_frames() {
    return {
        {"nothing", "", "only 0 bytes"},
        {"half a length", std::string(4, '\1'), "only 4 bytes"},
        {"a length of 2^64 - 1", length_prefix(~0ULL) + "{}", "announces a header"},
        {"a length of 2^63", length_prefix(1ULL << 63) + "{}", "announces a header"},
        {"a length one beyond the file", length_prefix(3) + "{}", "cut short"},
        {"a length just below the ceiling", length_prefix(99'999'999) + "{}", "cut short"},
        {"a length of 0", length_prefix(0) + "{}", "not valid JSON"},
        {"no JSON", file_with("hello", 0), "not valid JSON"},
        {"cut JSON", file_with(R"({"a":{"dtype":"F32")", 0), "not valid JSON"},
        {"an invalid character", file_with("{\"a\xFF\":1}", 0), "not valid JSON"},
        {"a zero byte", file_with(std::string{"{\"a\0\":1}", 8}, 0), "not valid JSON"},
        {"a list", file_with("[]", 0), "not a JSON object"},
        {"a number", file_with("7", 0), "not a JSON object"},
        {"a number of 400 digits", file_with("{\"a\":" + std::string(400, '9') + "}", 0), "number"},
        {"a million brackets", file_with(std::string(1'000'000, '['), 0), "nests deeper"},
        {"100,000 objects in one another", file_with(repeated(R"({"a":)", 100'000), 0), "nests deeper"},
        {"metadata that is no object", file_with(R"({"__metadata__":[]})", 0), "__metadata__"},
        {"metadata that is no text", file_with(R"({"__metadata__":{"a":1}})", 0), "__metadata__"},
        {"data without a tensor", file_with("{}", 4), "behind its last tensor"},
        {"an entry that is no object", file_with(R"({"a":3})", 0), "not described by an object"},
        {"a name with a line break", file_with("{\"a\\nb\":7}", 0), "a?b"},
    };
}

std::vector<hostile> files_with_broken_entries() {
    const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
    const std::string type = R"("dtype":"F32",)";
    const std::string offsets = R"(,"data_offsets":[0,8])";
    const std::string shape = R"("dtype":"F32","shape":[2],)";
    return {
        {"one tensor twice", file_with("{\"a\":{" + good + "},\"a\":{" + good + "}}", 8), "twice"},
        {"one field twice", one(good + R"(,"dtype":"F32")"), "twice"},
        {"no dtype", one(R"("shape":[2])" + offsets), "lacks \"dtype\""},
        {"an unknown dtype", one(R"("dtype":"F31","shape":[2])" + offsets), "unknown dtype"},
        {"a dtype that is a number", one(R"("dtype":1,"shape":[2])" + offsets), "unknown dtype"},
        {"no shape", one(R"("dtype":"F32")" + offsets), "lacks \"shape\""},
        {"a negative extent", one(type + R"("shape":[-2])" + offsets), "whole numbers"},
        {"an extent with a fraction", one(type + R"("shape":[2.0])" + offsets), "whole numbers"},
        {"an extent of 2^64", one(type + R"("shape":[18446744073709551616])" + offsets), "whole numbers"},
        {"a shape that is no list", one(type + R"("shape":2)" + offsets), "no list"},
        {"17 dimensions", one(type + R"("shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2])" + offsets), "no list"},
        {"a product that overflows", one(type + R"("shape":[4294967296,4294967296])" + offsets), "overflows"},
        {"bytes that wrap to 8", one(type + R"("shape":[4611686018427387906])" + offsets), "overflows"},
        {"a shape too large for its bytes", one(type + R"("shape":[3])" + offsets), "needs 12"},
        {"a shape too small for its bytes", one(type + R"("shape":[1])" + offsets), "needs 4"},
        {"an empty shape with bytes", one(type + R"("shape":[0,5])" + offsets), "needs 0"},
        {"no offsets", one(R"("dtype":"F32","shape":[2])"), "lacks \"data_offsets\""},
        {"one offset", one(shape + R"("data_offsets":[0])"), "right length"},
        {"three offsets", one(shape + R"("data_offsets":[0,8,8])"), "right length"},
        {"offsets in the wrong order", one(shape + R"("data_offsets":[8,0])"), "behind its end"},
        {"an offset beyond the file", one(shape + R"("data_offsets":[8,16])"), "cut short"},
        {"an offset of 2^64 - 1", one(shape + R"("data_offsets":[0,18446744073709551615])"), "cut short"},
        {"a file one byte short", one(good, 7), "cut short"},
        {"bytes behind the last tensor", one(good, 9), "behind its last tensor"},
        {"bytes before the first tensor", one(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"), "gap"},
        {"tensors that overlap",
         two(R"("shape":[8],"data_offsets":[0,8])", R"("shape":[4],"data_offsets":[4,8])"), "overlaps"},
        {"tensors in one place",
         two(R"("shape":[8],"data_offsets":[0,8])", R"("shape":[8],"data_offsets":[0,8])"), "overlaps"},
        {"a gap between tensors",
         two(R"("shape":[3],"data_offsets":[0,3])", R"("shape":[4],"data_offsets":[4,8])"), "gap"},
    };
}

/// Written from the definition of binary16: sign · 2^(exponent − 15) · 1.mantissa.
float binary16(std::uint16_t bits) {
    const int exponent = (bits >> 10) & 31;
    const float mantissa = static_cast<float>(bits & 1023) / 1024.0F;
    const float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
    if (exponent == 31)
        return sign * (mantissa == 0 ? HUGE_VALF : NAN);
    return sign * (exponent == 0 ? std::ldexp(mantissa, -14) : std::ldexp(1 + mantissa, exponent - 15));
}

/// Likewise bfloat16, with 8 bits of exponent and 7 of mantissa.
float brain16(std::uint16_t bits) {
    const int exponent = (bits >> 7) & 255;
    const float mantissa = static_cast<float>(bits & 127) / 128.0F;
    const float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
    if (exponent == 255)
        return sign * (mantissa == 0 ? HUGE_VALF : NAN);
    return sign * (exponent == 0 ? std::ldexp(mantissa, -126) : std::ldexp(1 + mantissa, exponent - 127));
}

bool is_same(float left, float right) {
    return std::isnan(left) ? std::isnan(right) : left == right && std::signbit(left) == std::signbit(right);
}

} // namespace

TEST_CASE("Every hostile safetensors header is refused with one line that says why") {
    auto files = files_with_broken_frames();
    for (hostile& each : files_with_broken_entries())
        files.push_back(std::move(each));
    for (const hostile& each : files) {
        const std::string refusal = parse_refusal(each.file);
        CAPTURE(each.what, refusal);
        CHECK(is_one_line(refusal));
        CHECK(refusal.size() < 400);
        CHECK_THAT(refusal, ContainsSubstring(each.says));
    }
}

TEST_CASE("A safetensors file cut anywhere is refused") {
    const std::string whole = file_with(R"({"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}})", 12);
    REQUIRE(parse_refusal(whole).empty());
    for (std::size_t length = 0; length < whole.size(); ++length)
        CHECK(is_one_line(parse_refusal(whole.substr(0, length))));
}

TEST_CASE("A good safetensors file gives each tensor its type, its shape and its bytes") {
    const std::string header = R"({"__metadata__":{"format":"pt"},)"
                               R"("b":{"dtype":"BF16","shape":[1,2],"data_offsets":[4,8]},)"
                               R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                               R"("none":{"dtype":"I64","shape":[0],"data_offsets":[8,8]}}   )";
    const std::string data{"\x00\x00\x80\x3F\x80\x3F\x00\xC0", 8};
    const std::string file = length_prefix(header.size()) + header + data;
    const auto tensors = parse_safetensors(std::as_bytes(std::span{file}), "x");
    REQUIRE(tensors.size() == 3);
    float value[2] = {};
    read_elements(tensors.at("a"), 0, std::span{value, 1});
    CHECK(value[0] == 1.0F);
    CHECK(tensors.at("b").type == element_type::bf16);
    CHECK(tensors.at("b").shape == std::vector<std::size_t>{1, 2});
    read_elements(tensors.at("b"), 0, value);
    CHECK(value[0] == 1.0F);
    CHECK(value[1] == -2.0F);
    CHECK(tensors.at("none").shape == std::vector<std::size_t>{0});
}

TEST_CASE("All 65,536 values of both 16-bit types are read exactly, from any alignment") {
    constexpr std::size_t all = 65536;
    std::vector<std::byte> storage(2 * all + 8);
    for (std::size_t shift = 0; shift < 3; ++shift) {
        std::byte* const start = storage.data() + shift;
        for (std::size_t i = 0; i < all; ++i) {
            const auto bits = static_cast<std::uint16_t>(i);
            std::memcpy(start + 2 * i, &bits, 2);
        }
        for (const auto type : {element_type::f16, element_type::bf16}) {
            std::vector<float> values(all);
            read_elements({type, {all}, start}, 0, values);
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < all; ++i) {
                const auto bits = static_cast<std::uint16_t>(i);
                wrong +=
                    is_same(type == element_type::f16 ? binary16(bits) : brain16(bits), values[i]) ? 0U : 1U;
            }
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE("A checkpoint refuses missing, misplaced and misshapen weights") {
    const temporary_directory directory;
    const auto open = [&] { return refusal_of([&] { checkpoint{directory.path()}; }); };
    CHECK_THAT(open(), ContainsSubstring("neither model.safetensors nor"));

    directory.write("one.safetensors",
                    file_with(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8));
    const std::vector<std::pair<std::string, std::string>> broken{
        {"{", "not valid JSON"},
        {"[]", "weight_map"},
        {"{}", "weight_map"},
        {R"({"weight_map":{}})", "weight_map"},
        {R"({"weight_map":{"a":1}})", "no file name"},
        {R"({"weight_map":{"a":"../one.safetensors"}})", "not a file beside it"},
        {R"({"weight_map":{"a":"/dev/null"}})", "not a file beside it"},
        {R"({"weight_map":{"a":".."}})", "not a file beside it"},
        {R"({"weight_map":{"a":""}})", "not a file beside it"},
        {R"({"weight_map":{"a":"two.safetensors"}})", "cannot open"},
        {R"({"weight_map":{"b":"one.safetensors"}})", "does not hold it"}};
    for (const auto& [index, message] : broken) {
        directory.write("model.safetensors.index.json", index);
        CAPTURE(index);
        CHECK_THAT(open(), ContainsSubstring(message));
        CHECK(is_one_line(open()));
    }

    directory.write("model.safetensors.index.json", R"({"weight_map":{"a":"one.safetensors"}})");
    const checkpoint weights{directory.path()};
    CHECK(weights.require("a", {2}).columns() == 2);
    CHECK(weights.weight_bytes() == 8);
    CHECK_THAT(refusal_of([&] { (void)weights.require("b", {2}); }),
               ContainsSubstring("lacks the tensor \"b\""));
    CHECK_THAT(refusal_of([&] { (void)weights.require("a", {2, 1}); }), ContainsSubstring("[2] where"));
}

TEST_CASE("A weight of a type that the model cannot use is refused by name") {
    const temporary_directory directory;
    directory.write("model.safetensors",
                    file_with(R"({"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", 8));
    const checkpoint weights{directory.path()};
    CHECK_THAT(refusal_of([&] { (void)weights.require("a", {1}); }), ContainsSubstring("stored as I64"));
}
