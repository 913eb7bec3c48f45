// SPDX-License-Identifier: Apache-2.0
//
// Each call of the backend fails in turn while chunks are sent and received, also when giving back fails
// once: nothing has changed afterwards on either side.
#include "connection.hpp"
#include "fake_fabric.hpp"
#include "support/catch.hpp"
#include "support/fault_loop.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/interop/receive_chunks.hpp>
#include <vtensor/interop/send_chunks.hpp>

#include <cstddef>
#include <vector>

using namespace vtensor;
using vtensor::testing::at_once;
using vtensor::testing::connection;
using vtensor::testing::fake_fabric;
using vtensor::testing::fault_length;
using vtensor::testing::for_each_failing_call;
using vtensor::testing::open_descriptors;
using vtensor::testing::soon;

namespace {

using failing_fabric = adaptors::failing<fake_fabric>;
static_assert(interop::shareable_backend<failing_fabric>);

constexpr std::size_t count = 255; // two messages

std::vector<int> create(fake_fabric& backend) {
    std::vector<int> made;
    for (std::size_t index = 0; index < count; ++index)
        made.push_back(*backend.create(64_KiB));
    return made;
}

} // namespace

TEST_CASE("whichever export fails, the receiver gets nothing") {
    for (const int descriptors_from : {1, 1'000'000}) {
        fake_fabric exporter;
        exporter.descriptors_from = descriptors_from;
        failing_fabric failing{exporter};
        fake_fabric importer;
        const auto chunks = create(exporter);
        const std::size_t descriptors = open_descriptors();
        std::vector<int> got(count);
        std::size_t parts_sent = 0;
        const auto send = [&] {
            connection both;
            const auto sent =
                interop::send_chunks<failing_fabric>(both.sender, failing, chunks, 64_KiB, soon());
            const auto received =
                interop::receive_chunks<fake_fabric>(both.receiver, importer, got, 64_KiB, at_once());
            CHECK(sent.ok() == received.ok());
            if (!sent) {
                CHECK(sent.code() == errc::out_of_memory);
                const bool closed = !both.sender.descriptor();
                CHECK(received.code() == (closed ? errc::disconnected : errc::timed_out));
                parts_sent += closed ? 1 : 0;
            }
            return sent.ok();
        };
        const auto check = [&](std::size_t) {
            CHECK(exporter.held() == count);
            CHECK(importer.held() == 0);
            CHECK(open_descriptors() == descriptors);
        };
        CHECK(for_each_failing_call(failing, send, check) == count);
        CHECK(parts_sent == 2); // where the export of chunk 254 or 255 failed
        CHECK(got == chunks);
    }
}

TEST_CASE("whichever import fails, all the others are given back") {
    for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
        fake_fabric exporter;
        fake_fabric importer;
        failing_fabric failing{importer};
        const auto chunks = create(exporter);
        const std::size_t descriptors = open_descriptors();
        std::vector<int> got(count);
        const auto receive = [&] {
            connection both;
            REQUIRE(interop::send_chunks<fake_fabric>(both.sender, exporter, chunks, 64_KiB, soon()));
            const auto received =
                interop::receive_chunks<failing_fabric>(both.receiver, failing, got, 64_KiB, soon());
            CHECK((received.ok() || received.code() == errc::native_failure));
            CHECK(received.ok() == static_cast<bool>(both.receiver.descriptor()));
            return received.ok();
        };
        const auto check = [&](std::size_t) {
            CHECK(importer.held() == 0);
            CHECK(got == std::vector<int>(count));
            CHECK(open_descriptors() == descriptors);
        };
        CHECK(for_each_failing_call(failing, receive, check, errc::native_failure, length) == count);
        CHECK(got == chunks);
        CHECK(importer.held() == count);
    }
}

TEST_CASE("a chunk that the backend refuses twice to destroy stays in the caller's hands") {
    fake_fabric exporter;
    fake_fabric importer;
    failing_fabric failing{importer};
    connection both;
    std::vector<int> chunks = create(exporter);
    chunks.resize(3);
    std::vector<int> got(3);
    REQUIRE(interop::send_chunks<fake_fabric>(both.sender, exporter, chunks, 64_KiB, soon()));
    failing.fail_calls(3, 3); // the third import, and both tries to destroy the first chunk
    CHECK_FALSE(interop::receive_chunks<failing_fabric>(both.receiver, failing, got, 64_KiB, soon()).ok());
    CHECK(got == std::vector{chunks[0], 0, 0});
    CHECK(importer.held() == 1);
    CHECK(failing.destroy(got[0]).ok());
    CHECK(importer.held() == 0);
}
