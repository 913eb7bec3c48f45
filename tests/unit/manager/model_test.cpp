// SPDX-License-Identifier: Apache-2.0
//
// A manager beside plain copies of what its sequences must hold, through everything that an engine may do.
#include "random_engine.hpp"

#include <support/kernel_figures.hpp>
#include <support/sanitizers.hpp>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr std::size_t steps = any_sanitizer ? 3'000 : 20'000;

/// Takes all memory away that `room` promises, then page by page what there was besides, and gives it back.
template <class Engine>
void take_all_room(Engine& now, typename Engine::pool_type& pool, bytes& promised, bytes& besides) {
    const bytes limit = pool.stats().limit;
    const bytes room = now.manager->room();
    const bytes page = pool.chunk_size();
    if (limit == bytes{0} || limit - room < page)
        return; // 0 would be no limit
    promised += room;
    bytes left = limit - room;
    REQUIRE(now.manager->resize_limit(left));
    REQUIRE(pool.stats().created <= left);
    for (; left > page && now.manager->resize_limit(left - page); left -= page)
        besides += page;
    REQUIRE(now.manager->room() == bytes{0});
    REQUIRE(now.manager->resize_limit(limit));
}

template <class Engine>
void live(typename Engine::pool_type& pool, const typename Engine::options_type& options,
          std::uint64_t seed) {
    Engine now{pool, 400, options};
    random_engine<Engine> chance{now, seed, {.changes_limit = true, .evicts = true}};
    bytes promised{0}, besides{0};
    for (std::size_t step = 0; step < steps; ++step) {
        chance.step();
        if (step % 16 == 0)
            chance.check_one();
        if (step % 512 == 0) {
            REQUIRE(now.manager->verify());
            now.require_same();
            take_all_room(now, pool, promised, besides);
        }
        REQUIRE((pool.stats().limit == bytes{0} || pool.stats().created <= pool.stats().limit));
    }
    now.require_same();
    REQUIRE(now.manager->verify());
    CHECK(kernel_memory_file_bytes() == pool.stats().created);
    CHECK(chance.refusals() > 0);
    CHECK(promised > bytes{0});
    CHECK(besides * 10 < promised); // caches that share with each other alone
    CHECK((chance.merges() > 0) == options.merges_prefixes);
}

} // namespace

TEST_CASE("No sequence ever shows what another one wrote") {
    using engine_type = engine<shared_layer<host_backend>, reclaim::cheapest_first, preemption::swap_out>;
    host_backend memory;
    engine_type::pool_type pool{memory, {.limit = bytes{300 * 4096}}};
    auto options = engine_type::plain();
    SECTION("mapped when needed") {}
    SECTION("in runs of pages") { options.cache.tokens_a_growth = 96; }
    SECTION("released eagerly") { options.releases_lazily = false; }
    SECTION("not merged") { options.merges_prefixes = false; }
    live<engine_type>(pool, options, 5);
    CHECK(pool.stats().in_use == bytes{0});
    CHECK(pool.verify());
}

TEST_CASE("The same with a thread that maps ahead") {
    using engine_type = engine<shared_layer<host_backend>, reclaim::cheapest_first, preemption::swap_out>;
    host_backend memory;
    mapper thread;
    engine_type::pool_type pool{memory, {.limit = bytes{300 * 4096}}};
    auto options = engine_type::plain();
    options.thread = &thread;
    live<engine_type>(pool, options, 6);
    CHECK(pool.stats().in_use == bytes{0});
}
