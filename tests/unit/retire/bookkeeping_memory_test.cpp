// SPDX-License-Identifier: Apache-2.0
//
// Where there is no memory for the book-keeping of retiring pages, operations fail with out_of_memory and
// have changed nothing. Each allocation of each operation is made to fail once.
#include "support/catch.hpp"
#include "support/failing_new.hpp"

#include <vtensor/adaptors/detail/forwarding.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/memory/retiring_range.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>

using namespace vtensor;
using vtensor::testing::failing_new;

namespace {

/// Host memory with events that allocate nothing: each has happened when the test says so.
class held_events : public adaptors::detail::forwarding<host_backend, held_events> {
  public:
    using stream_type = int;
    using event_type = std::size_t;

    explicit held_events(host_backend& host) noexcept
        : adaptors::detail::forwarding<host_backend, held_events>{host} {}

    [[nodiscard]] std::size_t live() const {
        return static_cast<std::size_t>(std::count(exists_.begin(), exists_.end(), true));
    }
    bool hold = true;

    [[nodiscard]] result<std::size_t> create_event() noexcept {
        const auto free = std::find(exists_.begin(), exists_.end(), false);
        if (free == exists_.end())
            return error{errc::native_failure, verb::create_event, 0, bytes{0}};
        *free = true;
        return static_cast<std::size_t>(free - exists_.begin());
    }
    [[nodiscard]] status destroy_event(std::size_t event) noexcept {
        exists_[event] = false;
        return {};
    }
    [[nodiscard]] status record(std::size_t, int) noexcept { return {}; }
    [[nodiscard]] result<bool> query(std::size_t) noexcept { return !hold; }
    [[nodiscard]] status wait(std::size_t) noexcept { return {}; }
    [[nodiscard]] status wait(int, std::size_t) noexcept { return {}; }
    [[nodiscard]] status copy(address, address, bytes, int) noexcept { return {}; }
    [[nodiscard]] status fill(address, std::byte, bytes, int) noexcept { return {}; }

  private:
    friend class adaptors::detail::around_access;
    template <class Next>
    auto around(const adaptors::call&, Next& next) noexcept {
        return next();
    }

    std::array<bool, 64> exists_{};
};
static_assert(stream_ordered_backend<held_events>);

using pool_type = chunk_pool<held_events>;
using range_type = retiring_range<pool_type>;

struct scene {
    host_backend host;
    held_events backend{host};
    pool_type pool{backend};

    void check(const range_type& range, std::size_t mapped, std::size_t retiring) {
        CHECK(range.accessible() == page_count{mapped});
        CHECK(range.mapped() == page_count{mapped});
        CHECK(range.retiring() == page_count{retiring});
        CHECK(range.verify());
        CHECK(pool.retiring().verify());
        CHECK(host.mapped_bytes() == (mapped + retiring) * 4_KiB);
        CHECK(pool.stats().in_use == (mapped + retiring) * 4_KiB);
    }
};

/// Runs the operation with its first allocation failing, then with its second, and so on until none is left
/// to fail, and calls `check()` after each failure. Returns how many there were. `step` 0 fails the first one
/// every time, for an operation that keeps what it was given.
template <class Operate, class Check>
std::size_t with_each_allocation_failing(Operate operate, Check check, bool keeps = false) {
    std::size_t k = 1;
    for (std::size_t failures = 0; failures < 1000; ++failures, k = keeps ? 2 : k + 1) {
        failing_new::fail(k);
        const status outcome = operate();
        if (failing_new::disarm() == 0) {
            REQUIRE(outcome);
            return failures;
        }
        CAPTURE(k);
        REQUIRE(outcome.code() == errc::out_of_memory);
        check();
    }
    FAIL("the operation never stops asking for memory");
    return 0;
}

} // namespace

TEST_CASE("a range that cannot be entered is not made") {
    scene s;
    const std::size_t failed = with_each_allocation_failing(
        [&] {
            const auto made = range_type::create(s.pool, 8_pages, owner_id{});
            return made.status();
        },
        [&] { CHECK(s.host.reserved_bytes() == 0_B); });
    CHECK(failed > 0);
    CHECK(s.host.reserved_bytes() == 0_B);
}

TEST_CASE("retiring needs memory before it changes anything") {
    scene s;
    range_type range = *range_type::create(s.pool, 8_pages, owner_id{});
    REQUIRE(range.grow_to(5_pages));
    const std::size_t failed = with_each_allocation_failing([&] { return range.retire_to(2_pages, 1); },
                                                            [&] {
                                                                s.check(range, 5, 0);
                                                                CHECK(s.backend.live() <= 1);
                                                            },
                                                            true);
    CHECK(failed == 5); // three pages, a lane and a ticket
    s.check(range, 2, 3);

    // In steady state it needs none.
    for (int round = 0; round < 10; ++round) {
        REQUIRE(range.grow_to(5_pages));
        s.backend.hold = false;
        REQUIRE(s.pool.retiring().reclaim());
        s.backend.hold = true;
        CHECK(with_each_allocation_failing([&] { return range.retire_to(2_pages, round); }, [] {}) == 0);
    }
    CHECK(s.backend.live() == 1);
}

TEST_CASE("retiring and shrinking over revived pages need memory before they change anything") {
    const bool names_stream = GENERATE(false, true);
    scene s;
    range_type range = *range_type::create(s.pool, 8_pages, owner_id{});
    REQUIRE(range.grow_to(4_pages));
    REQUIRE(range.retire_to(2_pages, 1));
    REQUIRE(range.grow_to(8_pages));
    const std::size_t failed = with_each_allocation_failing(
        [&] { return names_stream ? range.retire_to(1_pages, 2) : range.shrink_to(1_pages); },
        [&] { s.check(range, 8, 0); }, true);
    CHECK(failed == (names_stream ? 9 : 7)); // seven pages; a lane and a ticket
    s.check(range, 1, names_stream ? 7 : 2);
    s.backend.hold = false;
    REQUIRE(s.pool.retiring().reclaim());
    s.check(range, 1, 0);
}

TEST_CASE("growing over retiring pages lets them retire again where there is no memory") {
    scene s;
    range_type range = *range_type::create(s.pool, 64_pages, owner_id{});
    REQUIRE(range.grow_to(4_pages));
    REQUIRE(range.retire_to(2_pages, 1));
    const std::size_t failed =
        with_each_allocation_failing([&] { return range.grow_to(60_pages); }, [&] { s.check(range, 2, 2); });
    CHECK(failed > 50);
    s.check(range, 60, 0);
}

TEST_CASE("a range may go while there is no memory") {
    scene s;
    {
        range_type range = *range_type::create(s.pool, 8_pages, owner_id{});
        REQUIRE(range.grow_to(6_pages));
        REQUIRE(range.retire_to(2_pages, 1));
        REQUIRE(range.grow_to(4_pages));
        failing_new::fail(1);
    }
    CHECK(failing_new::disarm() == 0); // it asks for none
    CHECK(s.host.mapped_bytes() == 16_KiB);
    s.backend.hold = false;
    REQUIRE(s.pool.retiring().reclaim());
    CHECK(s.host.mapped_bytes() == 0_B);
    CHECK(s.host.reserved_bytes() == 0_B);
}
