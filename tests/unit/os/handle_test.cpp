// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/backends/os/handle.hpp>

#include <type_traits>
#include <utility>

#include <fcntl.h>

using namespace vtensor;
using vtensor::testing::open_descriptors;

static_assert(!std::is_copy_constructible_v<file_descriptor> && !std::is_copy_assignable_v<file_descriptor>);
static_assert(std::is_nothrow_move_constructible_v<os_handle> &&
              std::is_nothrow_move_assignable_v<os_handle>);

namespace {

file_descriptor open_null() { return file_descriptor{::open("/dev/null", O_RDONLY | O_CLOEXEC)}; }

} // namespace

TEST_CASE("a descriptor is closed with its owner, once, wherever it was moved to") {
    const std::size_t before = open_descriptors();
    {
        file_descriptor first = open_null();
        REQUIRE(first);
        CHECK(open_descriptors() == before + 1);
        const int number = first.number();
        file_descriptor second{std::move(first)};
        CHECK_FALSE(first); // NOLINT: what moving leaves is part of the contract
        CHECK(second.number() == number);

        file_descriptor third = open_null();
        third = std::move(second); // closes what it had
        CHECK(third.number() == number);
        CHECK(open_descriptors() == before + 1);
        file_descriptor& same = third;
        third = std::move(same);
        CHECK(third.number() == number);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a released descriptor is the caller's to close") {
    const std::size_t before = open_descriptors();
    int number = -1;
    {
        file_descriptor owner = open_null();
        number = owner.release();
        CHECK_FALSE(owner);
        CHECK(owner.release() == -1);
    }
    CHECK(open_descriptors() == before + 1);
    CHECK(::close(number) == 0);
}

TEST_CASE("a duplicate lives on its own and is closed on exec") {
    file_descriptor first = open_null();
    const file_descriptor second = first.duplicate();
    REQUIRE(second);
    CHECK(second.number() != first.number());
    first = file_descriptor{};
    CHECK((::fcntl(second.number(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_FALSE(file_descriptor{}.duplicate());
    CHECK_FALSE(file_descriptor{-5});
    CHECK(file_descriptor{-5}.number() == -1);
}

TEST_CASE("a handle tells its kind and gives a descriptor up once") {
    CHECK(os_handle{}.kind() == os_handle_kind::none);
    CHECK(os_handle{file_descriptor{}}.kind() == os_handle_kind::none);

    fabric_handle name;
    name.data[63] = std::byte{7};
    os_handle fabric{name};
    CHECK(fabric.kind() == os_handle_kind::fabric);
    REQUIRE(fabric.fabric() != nullptr);
    CHECK(*fabric.fabric() == name);
    CHECK(fabric.descriptor() == -1);
    CHECK_FALSE(fabric.take_descriptor());
    CHECK(fabric.kind() == os_handle_kind::fabric);

    const std::size_t before = open_descriptors();
    os_handle handle{open_null()};
    CHECK(handle.kind() == os_handle_kind::descriptor);
    CHECK(handle.descriptor() >= 0);
    CHECK(handle.fabric() == nullptr);
    os_handle moved{std::move(handle)};
    CHECK(handle.kind() == os_handle_kind::none); // NOLINT: what moving leaves is part of the contract
    CHECK(moved.take_descriptor());
    CHECK(moved.kind() == os_handle_kind::none);
    CHECK_FALSE(moved.take_descriptor());
    CHECK(open_descriptors() == before);
}
