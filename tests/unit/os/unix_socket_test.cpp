// SPDX-License-Identifier: Apache-2.0
//
// Messages and descriptors between two ends in one process: what arrives, what is refused, and that nothing
// stays open.
#include "support/catch.hpp"
#include "support/descriptor_limit.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/backends/os/unix_socket.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace vtensor;
using namespace std::chrono_literals;
using vtensor::testing::descriptor_limit;
using vtensor::testing::open_descriptors;

namespace {

struct ends {
    ends() {
        auto made = unix_socket::pair();
        REQUIRE(made);
        left = std::move(made->first);
        right = std::move(made->second);
    }
    unix_socket left;
    unix_socket right;
};

std::vector<std::byte> letters(std::size_t count) {
    std::vector<std::byte> made(count);
    for (std::size_t index = 0; index < count; ++index)
        made[index] = static_cast<std::byte>(index * 7 + 1);
    return made;
}

std::pair<file_descriptor, file_descriptor> make_pipe() {
    int both[2];
    REQUIRE(::pipe2(both, O_CLOEXEC) == 0);
    return {file_descriptor{both[0]}, file_descriptor{both[1]}};
}

} // namespace

TEST_CASE("messages arrive whole, one by one and in order") {
    ends both;
    for (const std::size_t size : {1u, 32u, 16'224u})
        REQUIRE(both.left.send(letters(size), {}, within(1s)));
    std::vector<std::byte> buffer(20'000);
    for (const std::size_t size : {1u, 32u, 16'224u}) {
        const auto got = both.right.receive(buffer, {}, within(1s));
        REQUIRE(got);
        CHECK(got->size == size);
        CHECK(got->descriptors == 0);
        const auto wanted = letters(size);
        CHECK(std::equal(wanted.begin(), wanted.end(), buffer.begin()));
    }
}

TEST_CASE("descriptors arrive as new ones of the same open file, closed on exec") {
    ends both;
    auto [reading, writing] = make_pipe();
    const std::array numbers{writing.number(), reading.number()};
    REQUIRE(both.left.send(letters(4), numbers, within(1s)));
    std::array<std::byte, 8> buffer{};
    std::array<file_descriptor, 3> got;
    const auto message = both.right.receive(buffer, got, within(1s));
    REQUIRE(message);
    CHECK(message->size == 4);
    REQUIRE(message->descriptors == 2);
    CHECK_FALSE(got[2]);
    CHECK((::fcntl(got[0].number(), F_GETFD) & FD_CLOEXEC) != 0);
    REQUIRE(::write(got[0].number(), "x", 1) == 1);
    char seen = 0;
    REQUIRE(::read(reading.number(), &seen, 1) == 1);
    CHECK(seen == 'x');
}

TEST_CASE("as many descriptors as the kernel passes at once travel in one message") {
    ends both;
    const auto [reading, writing] = make_pipe();
    const std::vector<int> numbers(unix_socket::max_descriptors, reading.number());
    REQUIRE(both.left.send(letters(1), numbers, within(1s)));
    std::array<std::byte, 1> buffer{};
    const std::size_t before = open_descriptors();
    {
        std::array<file_descriptor, unix_socket::max_descriptors> got;
        const auto message = both.right.receive(buffer, got, within(1s));
        REQUIRE(message);
        CHECK(message->descriptors == unix_socket::max_descriptors);
        CHECK(open_descriptors() == before + unix_socket::max_descriptors);
    }
    CHECK(open_descriptors() == before);
    const std::vector<int> too_many(unix_socket::max_descriptors + 1, reading.number());
    CHECK(both.left.send(letters(1), too_many, within(1s)).code() == errc::invalid_argument);
    CHECK(both.left.send({}, {}, within(1s)).code() == errc::invalid_argument);
}

TEST_CASE("what does not fit is refused, and its descriptors are closed") {
    ends both;
    const auto [reading, writing] = make_pipe();
    const std::array numbers{reading.number(), writing.number()};
    const std::size_t before = open_descriptors();
    std::array<std::byte, 4> buffer{};
    std::array<file_descriptor, 1> room;

    SECTION("a message that is longer than the buffer") {
        REQUIRE(both.left.send(letters(5), std::span{numbers}.first(1), within(1s)));
        CHECK(both.right.receive(buffer, room, within(1s)).code() == errc::malformed_message);
    }
    SECTION("more descriptors than asked for") {
        REQUIRE(both.left.send(letters(4), numbers, within(1s)));
        CHECK(both.right.receive(buffer, room, within(1s)).code() == errc::malformed_message);
    }
    SECTION("descriptors where none are asked for") {
        REQUIRE(both.left.send(letters(4), std::span{numbers}.first(1), within(1s)));
        CHECK(both.right.receive(buffer, {}, within(1s)).code() == errc::malformed_message);
    }
    CHECK_FALSE(room[0]);
    CHECK(open_descriptors() == before);
    // The next message is not harmed.
    REQUIRE(both.left.send(letters(3), std::span{numbers}.first(1), within(1s)));
    const auto next = both.right.receive(buffer, room, within(1s));
    REQUIRE(next);
    CHECK(next->size == 3);
    CHECK(next->descriptors == 1);
}

TEST_CASE("a message of no bytes is the end, or hostile where descriptors come with it") {
    ends both;
    std::array<std::byte, 4> buffer{};
    std::array<file_descriptor, 1> room;
    REQUIRE(::send(both.left.descriptor().number(), nullptr, 0, 0) == 0);
    CHECK(both.right.receive(buffer, room, within(1s)).code() == errc::disconnected);

    const std::size_t before = open_descriptors();
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
    msghdr empty{};
    empty.msg_control = control.data();
    empty.msg_controllen = control.size();
    cmsghdr* const carrier = CMSG_FIRSTHDR(&empty);
    carrier->cmsg_level = SOL_SOCKET;
    carrier->cmsg_type = SCM_RIGHTS;
    carrier->cmsg_len = CMSG_LEN(sizeof(int));
    const int number = both.left.descriptor().number();
    std::copy_n(reinterpret_cast<const unsigned char*>(&number), sizeof number, CMSG_DATA(carrier));
    REQUIRE(::sendmsg(both.left.descriptor().number(), &empty, 0) == 0);
    CHECK(both.right.receive(buffer, room, within(1s)).code() == errc::malformed_message);
    CHECK(open_descriptors() == before);
}

TEST_CASE("descriptors for which this process has no room are a limit, not a part of a message") {
    ends both;
    const auto [reading, writing] = make_pipe();
    const std::array numbers{reading.number(), writing.number(), reading.number()};
    REQUIRE(both.left.send(letters(4), numbers, within(1s)));
    const std::size_t before = open_descriptors();
    std::array<std::byte, 4> buffer{};
    std::array<file_descriptor, 3> room;
    const auto refused = [&] {
        const descriptor_limit limit{1}; // one more, not three
        return both.right.receive(buffer, room, within(1s));
    }();
    CHECK(refused.code() == errc::limit_exceeded);
    CHECK(refused.error().native == EMFILE);
    CHECK(open_descriptors() == before);
}

TEST_CASE("waiting ends at its deadline") {
    ends both;
    std::array<std::byte, 4> buffer{};
    const auto start = std::chrono::steady_clock::now();
    CHECK(both.right.receive(buffer, {}, within(30ms)).code() == errc::timed_out);
    CHECK(std::chrono::steady_clock::now() - start >= 30ms);
    CHECK(both.right.receive(buffer, {}, within(-1h)).code() == errc::timed_out);
    CHECK(both.right.receive(buffer, {}, wait_deadline::min()).code() == errc::timed_out);

    // Nobody reads: at some point there is no room for more.
    status outcome;
    for (int message = 0; message < 10'000 && outcome; ++message)
        outcome = both.left.send(letters(1000), {}, within(10ms));
    CHECK(outcome.code() == errc::timed_out);

    // What is there is taken even where the deadline has passed.
    CHECK(both.right.receive(buffer, {}, within(-1s)).code() == errc::malformed_message);
}

TEST_CASE("a closed end is noticed by the other, without a signal") {
    ends both;
    std::array<std::byte, 4> buffer{};
    REQUIRE(both.left.send(letters(2), {}, within(1s)));
    both.left = unix_socket{};
    CHECK(both.right.receive(buffer, {}, within(1s)).ok()); // what was sent before still comes
    CHECK(both.right.receive(buffer, {}, within(1s)).code() == errc::disconnected);
    CHECK(both.right.send(letters(2), {}, within(1s)).code() == errc::disconnected);

    unix_socket none;
    CHECK(none.receive(buffer, {}, within(1s)).code() == errc::disconnected);
    CHECK(none.send(letters(2), {}, within(1s)).code() == errc::disconnected);
}

TEST_CASE("only a connected Unix socket of whole messages is adopted, and the others are closed") {
    const std::size_t before = open_descriptors();
    const auto refused = [](int descriptor) {
        REQUIRE(descriptor >= 0);
        return unix_socket::adopt(file_descriptor{descriptor}).code();
    };
    CHECK(refused(::open("/dev/null", O_RDONLY)) == errc::invalid_argument);
    CHECK(refused(::socket(AF_UNIX, SOCK_SEQPACKET, 0)) == errc::invalid_argument); // not connected
    CHECK(refused(::socket(AF_UNIX, SOCK_STREAM, 0)) == errc::invalid_argument);
    CHECK(refused(::socket(AF_INET, SOCK_STREAM, 0)) == errc::invalid_argument);
    CHECK(unix_socket::adopt(file_descriptor{}).code() == errc::invalid_argument);
    int streams[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, streams) == 0);
    CHECK(refused(streams[0]) == errc::invalid_argument);
    CHECK(refused(streams[1]) == errc::invalid_argument);

    int packets[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets) == 0);
    auto left = unix_socket::adopt(file_descriptor{packets[0]});
    auto right = unix_socket::adopt(file_descriptor{packets[1]});
    REQUIRE(left);
    REQUIRE(right);
    CHECK(left->send(letters(2), {}, within(1s)).ok());
    left = unix_socket{};
    right = unix_socket{};
    CHECK(open_descriptors() == before);
}
