// SPDX-License-Identifier: Apache-2.0
//
// Sequences that begin alike and were created before any of them was recorded: once they are, the common
// beginning is in memory once, by the pool's figures and the kernel's, and who must not share does not.
#include "engine.hpp"

#include <support/kernel_figures.hpp>

#include <vtensor/adaptors/counting.hpp>
#include <vtensor/adaptors/failing.hpp>

#include <cstddef>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

template <class Backend = host_backend>
struct scene {
    using engine_type = engine<shared_layer<Backend>>;
    using pool_type = typename engine_type::pool_type;

    explicit scene(const typename engine_type::options_type& options = engine_type::plain(), bytes limit = {})
        : pool{backend, {.limit = limit}}, now{pool, 2048, options} {}
    ~scene() {
        now.require_same();
        CHECK(now.manager->verify());
    }
    scene(const scene&) = delete;
    scene& operator=(const scene&) = delete;

    /// Sequences with the same first tokens, and each with some of its own.
    std::vector<kv::sequence_id> create_alike(std::size_t count, std::size_t common, std::size_t own,
                                              kv::sequence_options options = {}) {
        std::vector<kv::sequence_id> made;
        for (std::size_t index = 0; index < count; ++index) {
            const auto one = now.create(joined(text(common), text(own, 10 + index)), options).value();
            CHECK(one.matched == 0);
            made.push_back(one.id);
        }
        return made;
    }
    [[nodiscard]] std::size_t pages() const { return pool.stats().in_use / pool.chunk_size(); }
    /// The same by the kernel, without what is only kept for reuse.
    [[nodiscard]] std::size_t pages_by_kernel() {
        REQUIRE(pool.trim());
        return kernel_memory_file_bytes() / pool.chunk_size();
    }

    host_backend memory;
    std::conditional_t<std::is_same_v<Backend, host_backend>, host_backend&, Backend> backend{memory};
    pool_type pool;
    engine_type now;
};
constexpr std::size_t together = engine<>::pages_together;
constexpr std::size_t a_page = engine<>::tokens_a_page;

} // namespace

TEST_CASE("A beginning that many sequences computed at once is held once when they are recorded") {
    scene s;
    constexpr std::size_t count = 6;
    const auto all = s.create_alike(count, 10 * a_page + 5, 40);
    CHECK(s.pages() == count * 12 * together);
    std::size_t held = s.pages();
    for (std::size_t index = 0; index < count; ++index) {
        REQUIRE(s.now.manager->try_record(all[index]));
        held -= index > 0 ? 10 * together : 0;
        CHECK(s.pages() == held);
        CHECK(s.pages_by_kernel() == held);
        s.now.require_same();
    }
    CHECK(held == (10 + 2 * count) * together);
    const kv::manager_stats seen = s.now.manager->stats();
    CHECK(seen.shared == s.pool.chunk_size() * (10 * (count - 1) * together));
    CHECK(seen.mapped == s.pool.chunk_size() * (12 * count * together));
    CHECK(seen.physical == s.pool.stats().in_use);

    // Each goes on by itself, and the beginning stays until the last one goes.
    for (const auto id : all)
        REQUIRE(s.now.extend(id, text(50, 99)));
    s.now.require_same();
    for (std::size_t index = 0; index + 1 < count; ++index)
        REQUIRE(s.now.release(all[index]));
    s.now.require_same();
}

TEST_CASE("Equal prompts are held once, but for their last page, and may be changed apart") {
    scene s;
    const auto all = s.create_alike(4, 3 * a_page + 7, 0);
    for (const auto id : all)
        REQUIRE(s.now.manager->try_record(id));
    CHECK(s.pages() == (3 + 4) * together);
    REQUIRE(s.now.overwrite(all[2], 5, 2 * a_page, 77)); // not recorded itself: the first one has all of it
    s.now.require_same();
    CHECK(s.pages() == (3 + 4 + 3) * together);
    REQUIRE(s.now.truncate(all[3], a_page + 3));
    REQUIRE(s.now.extend(all[3], text(2 * a_page, 5)));
    CHECK(s.now.overwrite(all[0], 0, 1, 1).code() == errc::busy);
}

TEST_CASE("A sequence is merged with one that is over, and with one whose place it takes") {
    scene s;
    const auto shorter = s.create_alike(1, 4 * a_page, 0).front();
    const auto longer = s.create_alike(2, 4 * a_page, 2 * a_page);
    REQUIRE(s.now.manager->try_record(shorter));
    const auto reader = s.now.create(joined(text(4 * a_page), text(3, 50))).value(); // has its pages
    CHECK(reader.matched == 4 * a_page);
    REQUIRE(s.now.release(shorter)); // kept for others
    REQUIRE(s.now.manager->try_record(longer[0]));
    CHECK(s.pages() == (4 + 1 + 2 + 6) * together);
    REQUIRE(s.now.manager->try_record(longer[1]));
    CHECK(s.pages() == (4 + 1 + 2 + 2) * together);
    REQUIRE(s.now.release(reader.id));
    s.now.require_same();
}

TEST_CASE("Sequences of different tenants are never merged") {
    scene s;
    std::vector<kv::sequence_id> all;
    for (const std::uint64_t tenant : {1u, 2u, 3u})
        all.push_back(s.create_alike(1, 10 * a_page, 0, {.salt = kv::salt_id{tenant}}).front());
    for (const auto id : all)
        REQUIRE(s.now.manager->try_record(id));
    CHECK(s.pages() == 3 * 10 * together);
    CHECK(s.now.manager->stats().shared == bytes{0});
}

TEST_CASE("Nothing is merged where the options say so, or prefixes are not shared at all") {
    auto options = engine<>::plain();
    SECTION("not merged") { options.merges_prefixes = false; }
    SECTION("not shared") { options.shares_prefixes = false; }
    scene s{options};
    const auto all = s.create_alike(3, 10 * a_page, 5);
    for (const auto id : all)
        REQUIRE(s.now.manager->try_record(id));
    CHECK(s.pages() == 3 * 11 * together);
    CHECK(s.now.manager->stats().shared == bytes{0});
}

TEST_CASE("Recording calls no backend where the pages are the same already, or fill no page") {
    using counted = adaptors::counting<host_backend>;
    scene<counted> s;
    const auto first = s.now.create(text(5 * a_page)).value().id;
    REQUIRE(s.now.manager->try_record(first));
    const auto second = s.now.create(joined(text(5 * a_page), text(40, 2))).value().id;
    const auto third = s.now.create(joined(text(a_page - 1), text(40, 3))).value().id;
    const auto before = s.backend.snapshot();
    for (const auto id : {second, third, first, second})
        REQUIRE(s.now.manager->try_record(id));
    CHECK(s.backend.snapshot() == before);
}

TEST_CASE("Memory that merging frees at the limit serves those who wait for it") {
    scene s{engine<>::plain(), bytes{4096u * 24 * together}};
    const auto all = s.create_alike(2, 10 * a_page, 0);
    CHECK(is_shortage(s.now.create(text(10 * a_page, 2)).code()));
    for (const auto id : all)
        REQUIRE(s.now.manager->try_record(id));
    CHECK(s.pages() == 10 * together);
    CHECK(s.now.create(text(10 * a_page, 2)));
}

TEST_CASE("Where merging fails at any call the sequence is recorded, with pages of its own") {
    using failing_backend = adaptors::failing<host_backend>;
    std::size_t kept_apart = 0;
    for (const std::size_t in_a_row : {1u, 2u}) {
        bool met = true;
        for (std::size_t k = 1; met; ++k) {
            INFO(in_a_row << " calls fail, from call " << k << " on");
            scene<failing_backend> s;
            const auto all = s.create_alike(2, 3 * a_page, 5);
            REQUIRE(s.now.manager->try_record(all[0]));
            const auto before = s.pool.stats();
            s.backend.fail_calls(k, in_a_row, errc::native_failure);
            CHECK(s.now.manager->try_record(all[1]));
            met = s.backend.failures() > 0;
            s.backend.disarm();
            const auto after = s.pool.stats();
            CHECK(after.in_use == (met ? before.in_use : before.in_use - 3 * together * 4_KiB));
            CHECK(after.aliases == (met ? before.aliases : before.aliases + 3 * together));
            CHECK(after.created == before.created);
            kept_apart += met ? 1u : 0u;
            CHECK(s.now.create(joined(text(3 * a_page), text(9, 11))).value().matched >= 3 * a_page);
            REQUIRE(s.now.manager->try_record(all[1])); // not merged later: the same tokens are its own
            s.now.require_same();
        }
    }
    CHECK(kept_apart > 2 * 4 * together);
}

TEST_CASE("A sequence that lost rows to a backend which never recovers is not recorded") {
    using failing_backend = adaptors::failing<host_backend>;
    using engine_type = engine<shared_layer<failing_backend>, reclaim::cheapest_first, preemption::swap_out>;
    std::size_t lost = 0;
    for (std::size_t k = 1;; ++k) {
        INFO("from backend call " << k << " on");
        // By hand: what the backend kept for ever is still in use in the end.
        host_backend memory;
        failing_backend backend{memory};
        engine_type::pool_type pool{backend, {}};
        engine_type now{pool};
        const auto first = now.create(text(3 * a_page)).value().id;
        const auto second = now.create(joined(text(3 * a_page), text(5, 2))).value().id;
        REQUIRE(now.manager->try_record(first));
        backend.fail_from(k, errc::native_failure);
        const status outcome = now.manager->try_record(second);
        const bool met = backend.failures() > 0;
        backend.disarm();
        now.require_same(first);
        CHECK(pool.verify());
        if (!outcome) {
            CHECK(outcome.code() == errc::native_failure);
            CHECK(now.manager->try_record(second).code() == errc::unsupported);
            REQUIRE(now.manager->try_preempt(second)); // and is to be computed again
            if (++lost % 2 == 0)
                REQUIRE(now.release(second));
            else
                REQUIRE(now.resume(second));
        }
        const auto third = now.create(joined(text(3 * a_page), text(5, 2))).value();
        CHECK(third.matched >= (outcome ? 3 * a_page + 4 : 3 * a_page));
        now.require_same();
        CHECK(now.manager->verify());
        if (!met)
            break;
    }
    CHECK(lost > 0);
}
