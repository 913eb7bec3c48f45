// SPDX-License-Identifier: Apache-2.0
//
// What is given back when memory is short, in which order, for whom, and what happens when nothing is left.
#include "engine.hpp"

#include <vtensor/adaptors/limiting.hpp>

#include <algorithm>
#include <limits>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr std::size_t together = engine<>::pages_together;
constexpr std::size_t a_page = engine<>::tokens_a_page;

template <class Reclaim = reclaim::cheapest_first, class Preemption = preemption::recompute>
struct scene {
    using engine_type = engine<shared_layer<host_backend>, Reclaim, Preemption>;

    /// Memory for so many pages of tokens.
    explicit scene(std::size_t pages,
                   const typename engine_type::options_type& options = engine_type::plain())
        : pool{memory, {.limit = 4_KiB * (pages * together)}}, now{pool, 2048, options} {}
    ~scene() { CHECK(now.manager->verify()); }
    scene(const scene&) = delete;
    scene& operator=(const scene&) = delete;

    [[nodiscard]] kv::sequence_id create(std::size_t pages, std::uint64_t seed, int priority = 0) {
        const auto made = now.create(text(pages * a_page, seed), {.salt = {}, .priority = priority});
        REQUIRE(made);
        return made->id;
    }
    [[nodiscard]] bool runs(kv::sequence_id id) const {
        return now.manager->state(id).value() == kv::sequence_state::running;
    }

    host_backend memory;
    typename engine_type::pool_type pool;
    engine_type now;
};

} // namespace

TEST_CASE("Lazily held pages are given back before prefixes, prefixes before sequences") {
    scene<> s{12};
    const auto recorded = s.create(4, 1);
    REQUIRE(s.now.manager->try_record(recorded));
    REQUIRE(s.now.release(recorded));
    const auto other = s.create(4, 2);
    REQUIRE(s.now.release(other));
    const auto running = s.create(4, 3); // on the pages of `other`
    CHECK(s.now.manager->stats().recorded == s.pool.chunk_size() * (4 * together));
    CHECK(s.now.manager->stats().lazily_held == s.now.manager->stats().recorded);
    const auto second = s.create(4, 4);         // what is left
    REQUIRE(s.now.extend(running, text(1, 5))); // the prefix goes
    CHECK(s.now.manager->stats().recorded == bytes{0});
    CHECK(s.runs(second));
    s.now.require_same();
    REQUIRE(s.now.release(second));
    CHECK(s.now.create(text(4 * a_page, 1)).value().matched == 0);
}

TEST_CASE("What a short sequence took over from a longer one is given back before prefixes") {
    auto options = engine<>::plain();
    options.tokens_ahead = 2 * a_page;
    scene<> s{12, options};
    const auto longer = s.create(8, 1);
    const auto recorded = s.create(3, 2);
    REQUIRE(s.now.manager->try_record(recorded));
    REQUIRE(s.now.release(recorded));
    REQUIRE(s.now.release(longer));
    const auto shorter = s.create(1, 3); // on the pages of `longer`
    CHECK(s.pool.stats().in_use == s.pool.chunk_size() * (11 * together));

    const auto next = s.create(5, 4); // one page was free, and eight cannot be had but from `shorter`
    CHECK(s.now.manager->stats().recorded == s.pool.chunk_size() * (3 * together));
    CHECK(s.now.manager->cache(shorter)->ready() == 3 * a_page); // what comes next stays
    CHECK(s.runs(next));
    s.now.require_same();
    const auto last = s.create(3, 5); // only now is it the prefix
    CHECK(s.now.manager->stats().recorded == bytes{0});
    CHECK(s.runs(last));
    s.now.require_same();
}

TEST_CASE("Pages that a released sequence had beyond what was recorded are given back, the prefix locked") {
    scene<reclaim::never_preempt> s{9};
    const auto recorded = s.create(2, 1);
    REQUIRE(s.now.manager->try_record(recorded));
    REQUIRE(s.now.extend(recorded, text(4 * a_page, 2)));
    const auto other = s.now.create(joined(text(2 * a_page, 1), text(a_page, 3)));
    REQUIRE(other);
    CHECK(other->matched == 2 * a_page);
    REQUIRE(s.now.release(recorded)); // four pages hold nothing, two are read on
    CHECK(s.pool.stats().in_use == s.pool.chunk_size() * (7 * together));
    CHECK(s.now.manager->room() == s.pool.chunk_size() * (6 * together));
    const auto last = s.create(6, 4);
    CHECK(s.runs(last));
    CHECK(s.now.manager->room() == bytes{0});
    s.now.require_same();
}

TEST_CASE("An engine is told how much memory can be had without a sequence giving way") {
    auto options = engine<>::plain();
    options.cache.tokens_a_growth = 2 * a_page;
    scene<reclaim::never_preempt> s{12, options};
    const bytes page = s.pool.chunk_size() * together;
    CHECK(s.now.manager->room() == page * 12);
    const auto recorded = s.create(2, 1);
    CHECK(s.now.manager->room() == page * 10);
    REQUIRE(s.now.manager->try_record(recorded));
    const auto fork = s.now.create(joined(text(2 * a_page, 1), text(1, 2))); // a page behind shared ones
    REQUIRE(fork);
    CHECK(s.now.manager->room() == page * 9); // the second page of a growth is not needed yet
    const auto blank = s.create(4, 3);
    CHECK(s.now.manager->room() == page * 5);
    REQUIRE(s.now.release(blank));
    CHECK(s.now.manager->room() == page * 9);
    REQUIRE(s.now.release(recorded));
    CHECK(s.now.manager->room() == page * 9); // the other one still reads them
    REQUIRE(s.now.release(fork->id));
    CHECK(s.now.manager->room() == page * 12);

    const auto first = s.create(3, 4);
    const std::size_t left = s.now.manager->room() / page;
    CHECK(left == 9);
    CHECK_FALSE(s.now.create(text(left * a_page + 1, 5)));
    const auto second = s.create(left, 5);
    CHECK(s.now.manager->room() == bytes{0});
    CHECK(s.runs(first));
    CHECK(s.runs(second));
    s.now.require_same();
}

TEST_CASE("Room is what the policy may take: a prefix that is locked stays, and one that is not named") {
    using blanks_only = reclaim::in_order<reclaim_source::lazily_held>;
    scene<blanks_only> s{8};
    const bytes page = s.pool.chunk_size() * together;
    const auto recorded = s.create(2, 1);
    REQUIRE(s.now.manager->try_record(recorded));
    REQUIRE(s.now.release(recorded));
    CHECK(s.now.manager->room() == page * 6);
    REQUIRE(s.now.release(s.create(3, 2)));
    CHECK(s.now.manager->room() == page * 6);

    // Half a page of the prefix is copied, and the page itself is kept for as long as the copy is in use.
    scene<> other{8};
    const auto donor = other.create(3, 1);
    REQUIRE(other.now.manager->try_record(donor));
    REQUIRE(other.now.release(donor));
    CHECK(other.now.manager->room() == page * 8);
    const auto half = other.now.create(joined(text(a_page / 2, 1), text(2, 9)));
    REQUIRE(half);
    CHECK(half->matched == a_page / 2);
    CHECK(other.now.manager->room() == page * 6);
    REQUIRE(other.now.manager->resize_limit(page * 2));
    CHECK(other.now.manager->room() == bytes{0});
    other.now.require_same();

    host_backend memory;
    engine<>::pool_type pool{memory, {}};
    engine<> endless{pool};
    CHECK(endless.manager->room() == bytes{std::numeric_limits<std::size_t>::max()});
}

TEST_CASE("The youngest sequence of the lowest priority is preempted, for none that is below it") {
    scene<> s{6};
    const auto oldest = s.create(2, 1);
    const auto low = s.create(1, 2, -1);
    const auto youngest = s.create(3, 3);

    const auto high = s.now.create(text(a_page, 4), {.salt = {}, .priority = 1});
    REQUIRE(high);
    REQUIRE(s.now.manager->preempted().size() == 1);
    CHECK(s.now.manager->preempted()[0] == low);
    CHECK_FALSE(s.runs(low));
    CHECK(s.now.manager->stats().preempted == 1);

    REQUIRE(s.now.extend(oldest, text(1, 5)));
    CHECK_FALSE(s.runs(youngest));
    s.now.require_same();

    // Nobody stands below `low`, and what runs leaves no room for it.
    REQUIRE(s.now.extend(oldest, text(3 * a_page - 1, 6)));
    CHECK(s.now.resume(low).status().code() == errc::limit_exceeded);
    CHECK_FALSE(s.runs(low));
    CHECK(s.now.manager->preempted().empty());
    REQUIRE(s.now.release(oldest));
    const auto placed = s.now.resume(low);
    REQUIRE(placed);
    CHECK(placed->matched == 0);
    s.now.require_same();
}

TEST_CASE("Sequences are preempted where the pool has no limit and memory ends all the same") {
    host_backend memory;
    adaptors::limiting<host_backend> scarce{memory, 4_KiB * (4 * together)};
    using engine_type = engine<shared_layer<adaptors::limiting<host_backend>>>;
    engine_type::pool_type pool{scarce, {}};
    engine_type now{pool};
    const auto low = now.create(text(3 * a_page, 1), {.salt = {}, .priority = -1}).value().id;
    const auto first = now.create(text(a_page, 2)).value().id;
    REQUIRE(now.extend(first, text(1, 3)));
    CHECK(std::ranges::equal(now.manager->preempted(), std::vector{low}));
    now.require_same();
    CHECK(now.manager->verify());
}

TEST_CASE("A step that preempts one of its own sequences extends the others") {
    scene<> s{4};
    const auto first = s.create(2, 1);
    const auto second = s.create(2, 2);
    const std::vector<kv::token_id> token{7};
    const std::vector<kv::extension> step{{second, token}, {first, token}};
    REQUIRE(s.now.extend(step));
    CHECK_FALSE(s.runs(second));
    CHECK(s.runs(first));
    REQUIRE(s.now.manager->preempted().size() == 1);
    CHECK(s.now.manager->tokens(first).size() == 2 * a_page + 1);
    CHECK(s.now.manager->tokens(second).size() == 2 * a_page);
    s.now.require_same();
}

TEST_CASE("Out of memory is said when nothing is left, and no sequence has changed") {
    scene<reclaim::never_preempt> s{4};
    const auto first = s.create(2, 1);
    const auto second = s.create(2, 2);
    const auto before = s.now.manager->stats();
    CHECK(s.now.extend(first, {1}).code() == errc::limit_exceeded);
    CHECK(s.now.create(text(5)).status().code() == errc::limit_exceeded);
    CHECK(s.now.create(text(2000)).status().code() == errc::limit_exceeded);
    CHECK(s.now.fork(second).status().ok()); // whole pages only: nothing to copy
    const auto after = s.now.manager->stats();
    CHECK(after.tokens == before.tokens + 2 * a_page);
    CHECK(after.physical == before.physical);
    CHECK(after.preempted == 0);
    s.now.require_same();

    scene<> greedy{4};
    const auto runs = greedy.create(2, 1);
    const auto too = greedy.create(2, 2);
    // All memory together is not enough: nobody is preempted in vain.
    CHECK(greedy.now.create(text(5 * a_page), {.salt = {}, .priority = 9}).status().code() ==
          errc::limit_exceeded);
    CHECK(greedy.runs(runs));
    CHECK(greedy.runs(too));
}

TEST_CASE("Rows that are kept come back as they were, others from the prefix tree or by computing") {
    scene<reclaim::cheapest_first, preemption::swap_out> kept{8};
    const auto one = kept.create(2, 1);
    REQUIRE(kept.now.extend(one, text(10, 2)));
    REQUIRE(kept.now.overwrite(one, 3, 2, 99)); // cannot be computed from the tokens
    REQUIRE(kept.now.manager->try_preempt(one));
    CHECK(kept.now.manager->stats().swapped.count() > 0);
    static_cast<void>(kept.create(8, 3, 1)); // comes before it
    CHECK_FALSE(kept.now.resume(one));
    while (kept.now.sequences.size() > 1)
        REQUIRE(kept.now.release(kept.now.sequences.rbegin()->first));
    const auto back = kept.now.resume(one);
    REQUIRE(back);
    CHECK(back->matched == 2 * a_page + 10);
    CHECK(kept.now.manager->stats().swapped == bytes{0});
    kept.now.require_same();

    scene<> computed{8};
    const auto other = computed.create(3, 1);
    REQUIRE(computed.now.manager->try_record(other));
    REQUIRE(computed.now.extend(other, text(5, 2)));
    REQUIRE(computed.now.manager->try_preempt(other));
    const auto placed = computed.now.resume(other);
    REQUIRE(placed);
    CHECK(placed->matched == 3 * a_page);
    computed.now.require_same();
    REQUIRE(computed.now.manager->try_preempt(other));
    REQUIRE(computed.now.release(other));
}

TEST_CASE("The limit can be changed while sequences run, not below what they have") {
    scene<> s{10};
    const auto one = s.create(2, 1);
    const auto gone = s.create(4, 2);
    REQUIRE(s.now.manager->try_record(gone));
    REQUIRE(s.now.release(gone));
    const bytes page = s.pool.chunk_size() * together;
    REQUIRE(s.now.manager->resize_limit(page * 3));
    CHECK(s.pool.stats().created <= page * 3);
    CHECK(s.now.manager->stats().recorded == bytes{0});
    CHECK(s.now.manager->resize_limit(page).code() == errc::limit_exceeded);
    CHECK(s.pool.stats().limit == page * 3);
    s.now.require_same();
    CHECK(s.now.extend(one, text(2 * a_page)).code() == errc::limit_exceeded);
    REQUIRE(s.now.manager->resize_limit(bytes{0}));
    REQUIRE(s.now.extend(one, text(2 * a_page)));
    s.now.require_same();
}

TEST_CASE("What is mapped ahead goes first, and never from a sequence of the same step") {
    auto options = scene<>::engine_type::plain();
    options.cache.tokens_a_growth = 4 * a_page;
    scene<> s{8, options};
    const auto one = s.create(1, 1); // has four pages, uses one
    const auto other = s.create(4, 2);
    CHECK(s.pool.stats().in_use == s.pool.stats().limit);
    REQUIRE(s.now.extend(other, text(2 * a_page, 3)));
    CHECK(s.runs(one));
    CHECK(s.runs(other));
    const std::vector<kv::token_id> many = text(a_page, 4);
    const std::vector<kv::extension> step{{one, many}, {other, {}}};
    REQUIRE(s.now.extend(step));
    s.now.require_same();
    // Both grow in one step: the pages of the first are not taken for the second.
    const std::vector<kv::extension> both{{one, std::span{many}.first(1)}, {other, std::span{many}.first(1)}};
    const status outcome = s.now.extend(both);
    CHECK((outcome.ok() ? s.now.manager->preempted().size() == 1 : true));
    s.now.require_same();
}
