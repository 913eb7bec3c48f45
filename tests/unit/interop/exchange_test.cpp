// SPDX-License-Identifier: Apache-2.0
//
// Chunks from one backend to another over a connection, by both kinds of handles.
#include "connection.hpp"
#include "fake_fabric.hpp"
#include "support/catch.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/interop/receive_chunks.hpp>
#include <vtensor/interop/send_chunks.hpp>

#include <cstddef>
#include <vector>

using namespace vtensor;
using interop::receive_chunks;
using interop::send_chunks;
using vtensor::testing::at_once;
using vtensor::testing::connection;
using vtensor::testing::fake_fabric;
using vtensor::testing::open_descriptors;
using vtensor::testing::soon;

namespace {

std::vector<int> create(fake_fabric& backend, std::size_t count) {
    std::vector<int> made;
    for (std::size_t index = 0; index < count; ++index)
        made.push_back(*backend.create(64_KiB));
    return made;
}

} // namespace

TEST_CASE("chunks arrive in the sender's order, however many messages they need") {
    for (const int descriptors_from : {1, 1'000'000}) {
        for (const std::size_t count : {1u, 2u, 253u, 254u, 700u}) {
            CAPTURE(descriptors_from, count);
            connection both;
            fake_fabric exporter;
            fake_fabric importer;
            exporter.descriptors_from = descriptors_from;
            const auto chunks = create(exporter, count);
            std::vector<int> got(count + 1, -1);
            const std::size_t before = open_descriptors();
            REQUIRE(send_chunks<fake_fabric>(both.sender, exporter, chunks, 64_KiB, soon()));
            const auto received = receive_chunks<fake_fabric>(both.receiver, importer, got, 64_KiB, soon());
            REQUIRE(received);
            CHECK(*received == count);
            CHECK(got.back() == -1);
            got.pop_back();
            CHECK(got == chunks);
            CHECK(importer.held() == count);
            CHECK(exporter.held() == count); // sending gives nothing up
            CHECK(open_descriptors() == before);
        }
    }
}

TEST_CASE("one connection carries many sets, in both directions") {
    connection both;
    fake_fabric backend;
    fake_fabric other;
    for (std::size_t count = 1; count < 6; ++count) {
        const auto chunks = create(backend, count);
        std::vector<int> got(count);
        REQUIRE(send_chunks<fake_fabric>(both.sender, backend, chunks, 64_KiB, soon()));
        REQUIRE(receive_chunks<fake_fabric>(both.receiver, other, got, 64_KiB, soon()));
        CHECK(got == chunks);
        REQUIRE(send_chunks<fake_fabric>(both.receiver, other, got, 64_KiB, soon()));
        REQUIRE(receive_chunks<fake_fabric>(both.sender, backend, got, 64_KiB, soon()));
        CHECK(got == chunks);
    }
}

TEST_CASE("arguments that cannot be meant are refused, and the connection stays") {
    connection both;
    fake_fabric backend;
    const auto chunks = create(backend, 2);
    std::vector<int> got(2);
    const auto sent = [&](std::span<const int> what, bytes size) {
        return send_chunks<fake_fabric>(both.sender, backend, what, size, soon()).code();
    };
    CHECK(sent({}, 64_KiB) == errc::invalid_argument);
    CHECK(sent(chunks, 0_B) == errc::invalid_argument);
    CHECK(sent(chunks, 96_KiB) == errc::misaligned);
    CHECK(sent(std::vector{1, 77}, 64_KiB) == errc::unknown_chunk);
    CHECK(receive_chunks<fake_fabric>(both.receiver, backend, {}, 64_KiB, soon()).code() ==
          errc::invalid_argument);
    CHECK(receive_chunks<fake_fabric>(both.receiver, backend, got, 0_B, soon()).code() ==
          errc::invalid_argument);
    // Nothing of it was sent, so nothing is there.
    CHECK(receive_chunks<fake_fabric>(both.receiver, backend, got, 64_KiB, at_once()).code() ==
          errc::timed_out);
    CHECK(sent(chunks, 64_KiB) == errc::ok);
    CHECK(receive_chunks<fake_fabric>(both.receiver, backend, got, 64_KiB, soon()).ok());
    CHECK(got == chunks);
}

TEST_CASE("chunks of another size or more of them than expected are refused") {
    connection both;
    fake_fabric exporter;
    fake_fabric importer;
    const auto chunks = create(exporter, 3);
    std::vector<int> got(3);
    REQUIRE(send_chunks<fake_fabric>(both.sender, exporter, chunks, 128_KiB, soon()));
    SECTION("size") {
        const auto refused = receive_chunks<fake_fabric>(both.receiver, importer, got, 64_KiB, soon());
        CHECK(refused.code() == errc::size_mismatch);
        CHECK(refused.error().size == 128_KiB);
    }
    SECTION("number") {
        const auto room = std::span{got}.first(2);
        CHECK(receive_chunks<fake_fabric>(both.receiver, importer, room, 128_KiB, soon()).code() ==
              errc::limit_exceeded);
    }
    CHECK(importer.held() == 0);
    CHECK(got == std::vector{0, 0, 0});
    // The connection is closed on both sides.
    CHECK(receive_chunks<fake_fabric>(both.receiver, importer, got, 128_KiB, soon()).code() ==
          errc::disconnected);
    CHECK(send_chunks<fake_fabric>(both.sender, exporter, chunks, 128_KiB, soon()).code() ==
          errc::disconnected);
}

TEST_CASE("a backend whose handles cannot be sent together is refused before anything is sent") {
    connection both;
    fake_fabric exporter;
    const auto chunks = create(exporter, 3);
    SECTION("two kinds") { exporter.descriptors_from = 3; }
    SECTION("no handle") { exporter.nothing_for = 1; }
    CHECK(send_chunks<fake_fabric>(both.sender, exporter, chunks, 64_KiB, soon()).code() ==
          errc::foreign_handle);
    std::vector<int> got(3);
    CHECK(receive_chunks<fake_fabric>(both.receiver, exporter, got, 64_KiB, at_once()).code() ==
          errc::timed_out);
}
