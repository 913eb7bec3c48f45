// SPDX-License-Identifier: Apache-2.0
//
// Scrubbing: what a tenant finds in the memory that another tenant left. The bytes themselves are read.
#include "support/catch.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/memory/mapped_range.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <cstring>

using namespace vtensor;

namespace {

using pool_type = chunk_pool<host_backend>;
using range_type = mapped_range<pool_type>;
using tensor = virtual_tensor<unsigned char, host_backend>;

constexpr owner_id alice{1};
constexpr owner_id bob{2};
constexpr std::size_t page = 4096;

/// How many bytes of a range of memory have the value.
std::size_t count_of(const unsigned char* data, std::size_t size, unsigned char value) {
    return static_cast<std::size_t>(std::count(data, data + size, value));
}

/// Writes `value` over `pages` pages in the name of `owner`, and lets them go.
void leave_behind(pool_type& pool, owner_id owner, std::size_t pages, unsigned char value) {
    tensor left{pool, {page}, pages, {}, {owner}};
    left.append(pages);
    std::memset(left.data(), value, pages * page);
}

/// A backend whose memory the CPU cannot reach.
struct hidden_backend {
    using chunk_type = host_chunk;
    host_backend upstream;

    [[nodiscard]] bytes granularity() const noexcept { return upstream.granularity(); }
    result<address> reserve(bytes size, bytes align) noexcept { return upstream.reserve(size, align); }
    status release(address where, bytes size) noexcept { return upstream.release(where, size); }
    result<host_chunk> create(bytes size) noexcept { return upstream.create(size); }
    status destroy(host_chunk chunk) noexcept { return upstream.destroy(chunk); }
    status map(address where, host_chunk chunk) noexcept { return upstream.map(where, chunk); }
    status set_access(address where, bytes size, vtensor::access_mode allowed) noexcept {
        return upstream.set_access(where, size, allowed);
    }
    status unmap(address where, bytes size) noexcept { return upstream.unmap(where, size); }
};
static_assert(backend<hidden_backend> && !host_visible_backend<hidden_backend>);

/// The same, by a run-time answer.
struct sometimes_visible_backend : hidden_backend {
    bool visible = false;
    [[nodiscard]] bool host_visible() const noexcept { return visible; }
};
static_assert(host_visible_backend<sometimes_visible_backend>);

} // namespace

TEST_CASE("without scrubbing a tensor may see what the last owner left") {
    host_backend backend;
    pool_type pool{backend};
    leave_behind(pool, alice, 2, 0xA1);
    tensor fresh{pool, {page}, 2, {}, {bob}};
    fresh.append(2);
    CHECK(count_of(fresh.data(), 2 * page, 0xA1) == 2 * page);
    CHECK(pool.stats().scrubbed == 0);
}

TEST_CASE("between owners every byte is zeroed before the new owner sees it") {
    host_backend backend;
    pool_type pool{backend, {.scrub = scrub_policy::between_owners}};
    leave_behind(pool, alice, 3, 0xA1);
    CHECK(pool.stats().scrubbed == 0);
    tensor fresh{pool, {page}, 8, {}, {bob}};
    fresh.append(5);
    CHECK(count_of(fresh.data(), 5 * page, 0) == 5 * page);
    CHECK(pool.stats().scrubbed == 3);
}

TEST_CASE("an owner gets his own chunks back as he left them") {
    host_backend backend;
    pool_type pool{backend, {.scrub = scrub_policy::between_owners}};
    leave_behind(pool, alice, 2, 0xA1);
    tensor again{pool, {page}, 2, {}, {alice}};
    again.append(2);
    CHECK(count_of(again.data(), 2 * page, 0xA1) == 2 * page);
    CHECK(pool.stats().scrubbed == 0);
}

TEST_CASE("a chunk that went from one owner to another and back is zeroed each time") {
    host_backend backend;
    pool_type pool{backend, {.scrub = scrub_policy::between_owners}};
    leave_behind(pool, alice, 1, 0xA1);
    leave_behind(pool, bob, 1, 0xB0);
    tensor third{pool, {page}, 1, {}, {alice}};
    third.append(1);
    CHECK(count_of(third.data(), page, 0) == page);
    CHECK(pool.stats().scrubbed == 2);
}

TEST_CASE("a chunk that a failed growth took and returned unseen still belongs to who wrote it") {
    // Six chunks hold alice's bytes; bob's growth to eight fails for want of memory after taking them.
    host_backend backend{{.capacity = 6 * 4_KiB}};
    pool_type pool{backend, {.scrub = scrub_policy::between_owners}};
    leave_behind(pool, alice, 6, 0xA1);
    tensor greedy{pool, {page}, 8, {}, {bob}};
    CHECK(greedy.try_append(8).code() == errc::out_of_memory);
    CHECK(greedy.mapped_bytes() == 0_B);
    greedy.append(6);
    CHECK(count_of(greedy.data(), 6 * page, 0) == 6 * page);
    CHECK(pool.stats().scrubbed == 6);
}

TEST_CASE("memory created anew is zero for every owner") {
    host_backend backend;
    pool_type pool{backend, {.scrub = scrub_policy::between_owners}};
    leave_behind(pool, alice, 2, 0xA1);
    REQUIRE(pool.trim());
    tensor fresh{pool, {page}, 2, {}, {bob}};
    fresh.append(2);
    CHECK(count_of(fresh.data(), 2 * page, 0) == 2 * page);
    CHECK(pool.stats().scrubbed == 0);
}

TEST_CASE("scrubbing is refused where the memory cannot be reached for it") {
    SECTION("by the type of the backend") {
        hidden_backend backend;
        using pool = chunk_pool<hidden_backend>;
        CHECK(pool::try_create(backend, {.scrub = scrub_policy::between_owners}).code() == errc::unsupported);
        CHECK_THROWS_AS((pool{backend, {.scrub = scrub_policy::between_owners}}), backend_failure);
        CHECK(pool::try_create(backend, {}));
    }
    SECTION("by what the backend says when asked") {
        sometimes_visible_backend backend;
        using pool = chunk_pool<sometimes_visible_backend>;
        CHECK(pool::try_create(backend, {.scrub = scrub_policy::between_owners}).code() == errc::unsupported);
        backend.visible = true;
        CHECK(pool::try_create(backend, {.scrub = scrub_policy::between_owners}));
    }
}
