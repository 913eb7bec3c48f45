// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <vtensor/interop/chunk_message.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

using namespace vtensor;
using interop::chunk_message;

namespace {

chunk_message example(os_handle_kind kind) {
    chunk_message made;
    made.kind = kind;
    made.count = 3;
    made.first = 0x01020304;
    made.total = 0x01020304 + 3;
    made.chunk_size = bytes{0x1112131415161718};
    return made;
}

std::vector<std::byte> bytes_of(const chunk_message& message) {
    const auto header = message.encode();
    std::vector<std::byte> content{header.begin(), header.end()};
    content.resize(content.size() + message.payload_size());
    return content;
}

errc parsed(const chunk_message& message, std::size_t descriptors) {
    return chunk_message::parse(bytes_of(message), descriptors).code();
}

} // namespace

TEST_CASE("the header is the bytes that the comment says") {
    const auto header = example(os_handle_kind::descriptor).encode();
    const unsigned char wanted[] = {'v', 't', 'c',  'h',  'u',  'n',  'k',  's',  1,    0,   1,
                                    0,   3,   0,    0,    0,    4,    3,    2,    1,    7,   3,
                                    2,   1,   0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11};
    static_assert(sizeof wanted == chunk_message::header_size);
    for (std::size_t index = 0; index < sizeof wanted; ++index)
        CHECK(std::to_integer<unsigned>(header[index]) == wanted[index]);
}

TEST_CASE("what is encoded is parsed again") {
    const auto with_descriptors = example(os_handle_kind::descriptor);
    const auto first = chunk_message::parse(bytes_of(with_descriptors), 3);
    REQUIRE(first);
    CHECK(*first == with_descriptors);

    const auto with_names = example(os_handle_kind::fabric);
    auto content = bytes_of(with_names);
    CHECK(content.size() == 32 + 3 * 64);
    content[32 + 2 * 64] = std::byte{9};
    const auto second = chunk_message::parse(content, 0);
    REQUIRE(second);
    CHECK(*second == with_names);
    CHECK(chunk_message::fabric_at(content, 2).data[0] == std::byte{9});
    CHECK(chunk_message::fabric_at(content, 1) == fabric_handle{});
}

TEST_CASE("every byte of the header that says what a message is must be right") {
    const auto good = bytes_of(example(os_handle_kind::descriptor));
    for (std::size_t index = 0; index < 12; ++index) { // magic, version, kind and zero
        for (unsigned value = 0; value < 256; ++value) {
            auto bad = good;
            if (bad[index] == static_cast<std::byte>(value))
                continue;
            bad[index] = static_cast<std::byte>(value);
            INFO("byte " << index << " is " << value);
            REQUIRE(chunk_message::parse(bad, 3).code() == errc::malformed_message);
        }
    }
}

TEST_CASE("counts that do not fit together are refused") {
    const auto with = [](auto change) {
        auto message = example(os_handle_kind::descriptor);
        change(message);
        return parsed(message, message.count);
    };
    CHECK(with([](auto&) {}) == errc::ok);
    CHECK(with([](auto& m) { m.count = 0; }) == errc::malformed_message);
    CHECK(with([](auto& m) { m.total = m.first + 2; }) == errc::malformed_message);
    CHECK(with([](auto& m) { m.total = 0; }) == errc::malformed_message);
    CHECK(with([](auto& m) { m.first = m.total; }) == errc::malformed_message);
    CHECK(with([](auto& m) { m.first = 0xffffffff; }) == errc::malformed_message);
    CHECK(with([](auto& m) { m.chunk_size = bytes{0}; }) == errc::malformed_message);
    CHECK(with([](auto& m) { m.total = 0xffffffff, m.first = 0xfffffffe; }) == errc::malformed_message);
    CHECK(with([](auto& m) { m.total = 0xffffffff, m.first = 0xfffffffc; }) == errc::ok);
    CHECK(with([](auto& m) { m.count = 253, m.first = 0, m.total = 253; }) == errc::ok);
    CHECK(with([](auto& m) { m.count = 254, m.first = 0, m.total = 254; }) == errc::malformed_message);
    CHECK(with([](auto& m) { m.kind = os_handle_kind::none; }) == errc::malformed_message);
}

TEST_CASE("a message of another length or with other descriptors than it says is refused") {
    for (const auto kind : {os_handle_kind::descriptor, os_handle_kind::fabric}) {
        const auto good = bytes_of(example(kind));
        const std::size_t right = kind == os_handle_kind::descriptor ? 3 : 0;
        for (std::size_t size = 0; size < good.size(); ++size)
            REQUIRE(chunk_message::parse(std::span{good}.first(size), right).code() ==
                    errc::malformed_message);
        auto longer = good;
        longer.push_back(std::byte{0});
        CHECK(chunk_message::parse(longer, right).code() == errc::malformed_message);
        for (std::size_t descriptors = 0; descriptors < 254; ++descriptors)
            CHECK(chunk_message::parse(good, descriptors).ok() == (descriptors == right));
    }
}
