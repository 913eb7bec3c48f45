// SPDX-License-Identifier: Apache-2.0
//
// reservation<host_backend>: who owns the addresses, checked against the backend's count and the kernel's.
#include "support/catch.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/memory/reservation.hpp>

#include <type_traits>
#include <utility>

using namespace vtensor;
using vtensor::testing::kernel_range;

using host_reservation = reservation<host_backend>;

static_assert(!std::is_copy_constructible_v<host_reservation>);
static_assert(!std::is_copy_assignable_v<host_reservation>);
static_assert(std::is_nothrow_move_constructible_v<host_reservation>);
static_assert(std::is_nothrow_move_assignable_v<host_reservation>);

TEST_CASE("an empty reservation holds nothing and releases as a no-op") {
    host_reservation empty;
    CHECK_FALSE(empty);
    CHECK(empty.start().is_null());
    CHECK(empty.size() == 0_B);
    CHECK(empty.release());
}

TEST_CASE("a reservation holds its addresses from creation to destruction") {
    host_backend backend;
    address where;
    {
        const auto made = host_reservation::create(backend, 64_GiB);
        REQUIRE(made);
        where = made->start();
        CHECK(*made);
        CHECK(made->size() == 64_GiB);
        CHECK(backend.reserved_bytes() == 64_GiB);
        CHECK(kernel_range(where, 64_GiB).covered() == 64_GiB);
        CHECK(kernel_range(where, 64_GiB).memory_file == 0_B);
    }
    CHECK(backend.reserved_bytes() == 0_B);
    CHECK(kernel_range(where, 64_GiB).covered() == 0_B);
}

TEST_CASE("a reservation starts at the alignment that was asked for") {
    host_backend backend;
    for (const bytes align : {0_B, 4_KiB, 64_KiB, 2_MiB, 1_GiB}) {
        const auto made = host_reservation::create(backend, 8_KiB, align);
        REQUIRE(made);
        CHECK(made->start().is_multiple_of(align == 0_B ? backend.granularity() : align));
        CHECK(kernel_range(made->start(), 8_KiB).covered() == 8_KiB);
    }
    CHECK(backend.reserved_bytes() == 0_B);
}

TEST_CASE("a refused reservation passes the backend's error on") {
    host_backend backend;
    CHECK(host_reservation::create(backend, 0_B).code() == errc::invalid_argument);
    CHECK(host_reservation::create(backend, 5_B).code() == errc::misaligned);
    CHECK(host_reservation::create(backend, 4_KiB, 12_KiB).code() == errc::invalid_argument);
    CHECK(host_reservation::create(backend, bytes{std::size_t{1} << 60}).code() == errc::out_of_addresses);
    CHECK(backend.reserved_bytes() == 0_B);
}

TEST_CASE("moving a reservation hands the addresses on and releases those it replaces") {
    host_backend backend;
    auto first = *host_reservation::create(backend, 1_MiB);
    const address start = first.start();
    host_reservation second{std::move(first)};
    CHECK_FALSE(first); // NOLINT(bugprone-use-after-move): the moved-from state is what is tested
    CHECK(second.start() == start);

    auto third = *host_reservation::create(backend, 2_MiB);
    third = std::move(second);
    CHECK_FALSE(second); // NOLINT(bugprone-use-after-move)
    CHECK(third.start() == start);
    CHECK(backend.reserved_bytes() == 1_MiB);

    host_reservation& same = third;
    third = std::move(same);
    CHECK(third.start() == start);
    CHECK(backend.reserved_bytes() == 1_MiB);
}

TEST_CASE("a reservation with a mapping in it is kept when its release is refused") {
    host_backend backend;
    auto held = *host_reservation::create(backend, 8_KiB);
    const host_chunk chunk = *backend.create(4_KiB);
    REQUIRE(backend.map(held.start(), chunk));

    CHECK(held.release().code() == errc::still_mapped);
    CHECK(held);
    CHECK(backend.reserved_bytes() == 8_KiB);

    REQUIRE(backend.unmap(held.start(), 4_KiB));
    CHECK(held.release());
    CHECK_FALSE(held);
    CHECK(backend.reserved_bytes() == 0_B);
    CHECK(backend.destroy(chunk));
}

TEST_CASE("a forgotten reservation leaves its addresses to the backend") {
    host_backend backend;
    {
        auto held = *host_reservation::create(backend, 8_KiB);
        held.forget();
        CHECK_FALSE(held);
    }
    CHECK(backend.reserved_bytes() == 8_KiB);
}
