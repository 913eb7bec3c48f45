// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/proc_maps.hpp"
#include "support/temporary_folder.hpp"

#include <vtensor/backends/os/unix_listener.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include <sys/stat.h>

using namespace vtensor;
using namespace std::chrono_literals;
using vtensor::testing::open_descriptors;
using vtensor::testing::temporary_folder;

TEST_CASE("processes meet at a path, which goes with the listener") {
    const temporary_folder folder;
    const std::string path = folder.file("meet");
    const std::size_t before = open_descriptors();
    {
        auto listener = unix_listener::listen(path);
        REQUIRE(listener);
        struct stat found {};
        REQUIRE(::stat(path.c_str(), &found) == 0);
        CHECK(S_ISSOCK(found.st_mode));
        CHECK((found.st_mode & 0777) == 0600);

        auto there = unix_socket::connect(path, within(1s));
        auto here = listener->accept(within(1s));
        REQUIRE(there);
        REQUIRE(here);
        const std::array content{std::byte{1}, std::byte{2}};
        REQUIRE(there->send(content, {}, within(1s)));
        std::array<std::byte, 2> seen{};
        REQUIRE(here->receive(seen, {}, within(1s)));
        CHECK(seen == content);
        CHECK(listener->accept(within(20ms)).code() == errc::timed_out);

        CHECK(unix_listener::listen(path).error().native == EADDRINUSE); // and the path is still there
        unix_listener moved{*std::move(listener)};
        CHECK(unix_socket::connect(path, within(1s)).ok());
    }
    CHECK_FALSE(std::filesystem::exists(path));
    CHECK(open_descriptors() == before);
}

TEST_CASE("where nobody listens there is no connection") {
    const temporary_folder folder;
    const auto nobody = unix_socket::connect(folder.file("nobody"), within(1s));
    CHECK(nobody.code() == errc::disconnected);
    CHECK(nobody.error().native == ENOENT);
    const auto missing = unix_listener::listen(folder.file("no/such/folder"));
    CHECK(missing.code() == errc::native_failure);
    CHECK(missing.error().native == ENOENT);
}

TEST_CASE("a listener that accepts nobody makes connecting time out") {
    const temporary_folder folder;
    const std::string path = folder.file("busy");
    auto listener = unix_listener::listen(path);
    REQUIRE(listener);
    std::vector<unix_socket> waiting;
    errc last = errc::ok;
    while (waiting.size() < 1000 && last == errc::ok) {
        auto made = unix_socket::connect(path, within(20ms));
        last = made.code();
        if (made)
            waiting.push_back(*std::move(made));
    }
    CHECK(last == errc::timed_out);
    CHECK(unix_socket::connect(path, within(-1s)).code() == errc::timed_out);
    REQUIRE(listener->accept(within(1s)));
    CHECK(unix_socket::connect(path, within(1s)).ok());
}

TEST_CASE("a path that can be none is refused") {
    using namespace std::string_literals;
    for (const std::string& path : {""s, std::string(108, 'x'), "zero\0byte"s}) {
        CHECK(unix_listener::listen(path).code() == errc::invalid_argument);
        CHECK(unix_socket::connect(path, within(1s)).code() == errc::invalid_argument);
    }
    const temporary_folder folder;
    const std::string longest = folder.file("").append(std::string(107 - folder.file("").size(), 'x'));
    CHECK(unix_listener::listen(longest).ok());
}
