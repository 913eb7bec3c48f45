// SPDX-License-Identifier: Apache-2.0
//
// Messages that no `send_chunks` would send: refused with a code, nothing imported, nothing left open.
#include "connection.hpp"
#include "fake_fabric.hpp"
#include "support/catch.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/interop/receive_chunks.hpp>

#include <cstddef>
#include <vector>

#include <fcntl.h>

using namespace vtensor;
using interop::chunk_message;
using vtensor::testing::connection;
using vtensor::testing::fake_fabric;
using vtensor::testing::open_descriptors;
using vtensor::testing::soon;

namespace {

chunk_message message(os_handle_kind kind, std::uint32_t count, std::uint32_t first = 0,
                      std::uint32_t total = 0) {
    chunk_message made;
    made.kind = kind;
    made.count = count;
    made.first = first;
    made.total = total == 0 ? count : total;
    made.chunk_size = 64_KiB;
    return made;
}

/// The message with handles of chunk 1, 2, ...
std::vector<std::byte> content_of(const chunk_message& header) {
    const auto encoded = header.encode();
    std::vector<std::byte> content{encoded.begin(), encoded.end()};
    content.resize(content.size() + header.payload_size());
    for (std::size_t index = 0; index * 64 < header.payload_size(); ++index)
        content[32 + index * 64 + 60] = static_cast<std::byte>(index + 1);
    return content;
}

class victim {
  public:
    /// Sends a message with that many descriptors of /dev/null.
    void send(std::span<const std::byte> content, std::size_t descriptors = 0) {
        const file_descriptor null{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
        const std::vector<int> numbers(descriptors, null.number());
        REQUIRE(both_.sender.send(content, numbers, soon()));
    }
    void send(const chunk_message& header, std::size_t descriptors = 0) {
        send(content_of(header), descriptors);
    }
    void hang_up() { both_.sender = unix_socket{}; }

    /// Receives up to 600 chunks. Afterwards nothing is held or open that was not before.
    [[nodiscard]] errc refusal() {
        const std::size_t before = open_descriptors();
        std::vector<int> got(600);
        const auto outcome =
            interop::receive_chunks<fake_fabric>(both_.receiver, backend, got, 64_KiB, soon());
        CHECK(backend.held() == 0);
        CHECK(got == std::vector<int>(600));
        CHECK_FALSE(both_.receiver.descriptor()); // who is not believed is not listened to any more
        CHECK(open_descriptors() == before - 1);
        return outcome.code();
    }

    fake_fabric backend;

  private:
    connection both_;
};

constexpr auto fabric = os_handle_kind::fabric;
constexpr auto descriptor = os_handle_kind::descriptor;

} // namespace

TEST_CASE("a message that is not ours is refused") {
    victim at;
    SECTION("one byte") { at.send(std::vector<std::byte>(1)); }
    SECTION("zeros") { at.send(std::vector<std::byte>(32)); }
    SECTION("half a header") {
        at.send(std::span<const std::byte>{content_of(message(fabric, 1))}.first(16));
    }
    SECTION("a header without its handles") {
        at.send(std::span<const std::byte>{content_of(message(fabric, 2))}.first(32 + 64));
    }
    SECTION("more than the longest message") {
        at.send(std::vector<std::byte>(chunk_message::max_size + 1, std::byte{1}));
    }
    CHECK(at.refusal() == errc::malformed_message);
}

TEST_CASE("descriptors that nobody announced are closed, and their message refused") {
    victim at;
    SECTION("none where one is promised") { at.send(message(descriptor, 1), 0); }
    SECTION("one too many") { at.send(message(descriptor, 2), 3); }
    SECTION("one too few") { at.send(message(descriptor, 3), 2); }
    SECTION("as many as can be") { at.send(message(descriptor, 1), 253); }
    SECTION("with fabric handles") { at.send(message(fabric, 2), 2); }
    SECTION("with what is not ours") { at.send(std::vector<std::byte>(7), 5); }
    CHECK(at.refusal() == errc::malformed_message);
}

TEST_CASE("messages that do not follow one another are refused, and the first is given back") {
    victim at;
    SECTION("the second part first") { at.send(message(fabric, 2, 2, 4)); }
    SECTION("the first part twice") {
        at.send(message(fabric, 2, 0, 4));
        at.send(message(fabric, 2, 0, 4));
    }
    SECTION("a part left out") {
        at.send(message(fabric, 2, 0, 6));
        at.send(message(fabric, 2, 4, 6));
    }
    SECTION("another total") {
        at.send(message(fabric, 2, 0, 4));
        at.send(message(fabric, 2, 2, 5));
    }
    CHECK(at.refusal() == errc::malformed_message);
}

TEST_CASE("an absurd number of chunks is a limit, not an allocation") {
    victim at;
    at.send(message(fabric, 1, 0, 0xffffffff));
    CHECK(at.refusal() == errc::limit_exceeded);
}

TEST_CASE("a sender that goes in the middle leaves nothing behind") {
    victim at;
    at.send(message(fabric, 200, 0, 400));
    at.hang_up();
    CHECK(at.refusal() == errc::disconnected);
}

TEST_CASE("a sender that stops in the middle is waited for until the deadline, and leaves nothing behind") {
    connection both;
    fake_fabric backend;
    REQUIRE(both.sender.send(content_of(message(fabric, 2, 0, 4)), {}, soon()));
    std::vector<int> got(4);
    CHECK(interop::receive_chunks<fake_fabric>(both.receiver, backend, got, 64_KiB,
                                               within(std::chrono::milliseconds{50}))
              .code() == errc::timed_out);
    CHECK(backend.held() == 0);
    CHECK_FALSE(both.receiver.descriptor()); // the rest would come out of step
}

TEST_CASE("one handle that the backend refuses gives all of them back") {
    victim at;
    at.backend.refused = 150;
    at.send(message(fabric, 200));
    CHECK(at.refusal() == errc::foreign_handle);
}
