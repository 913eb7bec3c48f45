// SPDX-License-Identifier: Apache-2.0
//
// The failures that a range cannot undo: pages that stay mapped without access, ranges that cannot be
// unmapped, reservations that cannot be released. Failures that it undoes are tested on the tensor.
#include "support/catch.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/memory/mapped_range.hpp>

#include <algorithm>
#include <cstring>
#include <optional>

using namespace vtensor;
using vtensor::adaptors::call;
using vtensor::adaptors::failing;
using vtensor::adaptors::verb_set;
using vtensor::testing::kernel_range;

namespace {

using failing_host = failing<host_backend>;
using pool_type = chunk_pool<failing_host>;
using range_type = mapped_range<pool_type>;

constexpr bytes page = 4_KiB;

/// A range with two accessible pages that hold the byte 0x22, whose pool keeps owners apart.
struct scene {
    host_backend host;
    failing_host backend{host};
    pool_type pool{backend, {.scrub = scrub_policy::between_owners}};
    std::optional<range_type> range = *range_type::create(pool, 16_pages, owner_id{2});

    scene() {
        REQUIRE(range->grow_to(2_pages));
        std::memset(data(), 0x22, 2 * page.count());
    }

    [[nodiscard]] unsigned char* data() const { return range->start().to_pointer<unsigned char>(); }
    [[nodiscard]] std::size_t count_of(std::size_t first, std::size_t last, unsigned char value) const {
        return static_cast<std::size_t>(
            std::count(data() + first * page.count(), data() + last * page.count(), value));
    }
    void check(std::size_t accessible, std::size_t mapped) const {
        CHECK(range->accessible() == page_count{accessible});
        CHECK(range->mapped() == page_count{mapped});
        CHECK(kernel_range(range->start(), range->reserved_bytes()).accessible == accessible * page);
        CHECK(host.mapped_bytes() == mapped * page);
        CHECK(pool.stats().in_use == mapped * page);
        CHECK(range->verify());
        CHECK(pool.verify());
        CHECK(count_of(0, 2, 0x22) == 2 * page.count());
    }
    /// A growth to six pages whose last mapping fails, and nothing of which can be unmapped.
    void fail_without_undo() {
        std::size_t maps = 0;
        backend.fail_if([maps](const call& seen) mutable {
            return seen.what == verb::unmap || (seen.what == verb::map && ++maps == 4);
        });
        CHECK(range->grow_to(6_pages).code() == errc::out_of_memory);
        backend.disarm();
    }
};

} // namespace

TEST_CASE("pages that a failed growth cannot unmap stay mapped, counted, and out of reach") {
    scene faulty;
    faulty.fail_without_undo();
    faulty.check(2, 5);
    CHECK(faulty.range->pages().state(page_index{2}) == page_state::mapped);
    CHECK(faulty.range->pages().state(page_index{5}) == page_state::reserved);
}

TEST_CASE("pages left over from a failed growth serve the next one") {
    scene faulty;
    faulty.fail_without_undo();
    const std::size_t acquired = faulty.pool.stats().acquired;
    REQUIRE(faulty.range->grow_to(4_pages)); // all that is mapped becomes accessible by the one call
    faulty.check(5, 5);
    CHECK(faulty.pool.stats().acquired == acquired);
    REQUIRE(faulty.range->grow_to(7_pages));
    faulty.check(7, 7);
    std::memset(faulty.data() + 2 * page.count(), 0x33, 5 * page.count());
    CHECK(faulty.count_of(2, 7, 0x33) == 5 * page.count());
}

TEST_CASE("pages left over from a failed growth go with the next shrinking") {
    scene faulty;
    faulty.fail_without_undo();
    REQUIRE(faulty.range->shrink_to(2_pages));
    faulty.check(2, 2);
}

TEST_CASE("pages left over are scrubbed before their new owner sees them") {
    scene faulty;
    {
        range_type left = *range_type::create(faulty.pool, 8_pages, owner_id{1});
        REQUIRE(left.grow_to(8_pages));
        std::memset(left.start().to_pointer(), 0x11, 8 * page.count());
    }
    faulty.fail_without_undo();
    CHECK(faulty.pool.stats().scrubbed == 0);
    REQUIRE(faulty.range->grow_to(6_pages));
    faulty.check(6, 6);
    CHECK(faulty.count_of(2, 6, 0) == 4 * page.count());
    CHECK(faulty.pool.stats().scrubbed == 4);
}

TEST_CASE("a growth that fails again over pages left over leaves them as they were or takes them away") {
    scene faulty;
    faulty.fail_without_undo();
    SECTION("at set_access, with an undo that works") {
        faulty.backend.fail_call(1, errc::too_many_mappings, {verb::set_access});
        CHECK(faulty.range->grow_to(4_pages).code() == errc::too_many_mappings);
        faulty.backend.disarm();
        faulty.check(2, 2);
    }
    SECTION("at set_access, without an undo") {
        faulty.backend.fail_from(1, errc::too_many_mappings, {verb::set_access, verb::unmap});
        CHECK(faulty.range->grow_to(4_pages).code() == errc::too_many_mappings);
        faulty.backend.disarm();
        faulty.check(2, 5);
    }
    SECTION("at create, without an undo") {
        faulty.backend.fail_from(1, errc::out_of_memory, {verb::create, verb::unmap});
        CHECK(faulty.range->grow_to(12_pages).code() == errc::out_of_memory);
        faulty.backend.disarm();
        faulty.check(2, 5);
    }
    REQUIRE(faulty.range->grow_to(12_pages));
    faulty.check(12, 12);
}

TEST_CASE("a range that can never be unmapped keeps its addresses and chunks from everybody else") {
    host_backend host;
    {
        failing_host backend{host};
        pool_type pool{backend};
        address lost;
        {
            range_type range = *range_type::create(pool, 8_pages, owner_id{});
            REQUIRE(range.grow_to(3_pages));
            lost = range.start();
            backend.fail_from(1, errc::native_failure, {verb::unmap, verb::release});
        }
        backend.disarm();
        CHECK(host.reserved_bytes() == 8 * page);
        CHECK(host.mapped_bytes() == 3 * page);
        CHECK(pool.stats().in_use == 3 * page);
        CHECK(pool.stats().free == 0_B);

        range_type next = *range_type::create(pool, 8_pages, owner_id{});
        REQUIRE(next.grow_to(8_pages));
        CHECK((next.start() >= lost + 8 * page || next.start() + 8 * page <= lost));
        std::memset(next.start().to_pointer(), 0x44, 8 * page.count());
        CHECK(std::count(lost.to_pointer<unsigned char>(),
                         lost.to_pointer<unsigned char>() + 3 * page.count(),
                         static_cast<unsigned char>(0x44)) == 0);
    }
    CHECK(host.physical_bytes() == 3 * page); // given up, and alive behind the lost addresses
}

TEST_CASE("a range that can be unmapped but not released loses its addresses and nothing else") {
    host_backend host;
    failing_host backend{host};
    pool_type pool{backend};
    {
        range_type range = *range_type::create(pool, 8_pages, owner_id{});
        REQUIRE(range.grow_to(3_pages));
        backend.fail_from(1, errc::native_failure, {verb::release});
    }
    CHECK(backend.failures() == 2);
    CHECK(host.reserved_bytes() == 8 * page);
    CHECK(host.mapped_bytes() == 0_B);
    CHECK(pool.stats().in_use == 0_B);
}
