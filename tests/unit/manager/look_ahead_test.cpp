// SPDX-License-Identifier: Apache-2.0
//
// Pages that are mapped by another thread before a step needs them.
#include "engine.hpp"

#include <vtensor/adaptors/failing.hpp>

#include <atomic>
#include <thread>

using namespace vtensor;
using namespace vtensor::testing;
using engine_type = engine<>;

namespace {

constexpr std::size_t a_page = engine_type::tokens_a_page;

engine_type::options_type ahead_with(mapper& thread) {
    auto options = engine_type::plain();
    options.thread = &thread;
    options.tokens_ahead = 2 * a_page;
    return options;
}

} // namespace

TEST_CASE("A steady step finds its pages mapped") {
    host_backend memory;
    mapper thread;
    engine_type::pool_type pool{memory, {}};
    engine_type now{pool, 2048, ahead_with(thread)};
    std::vector<kv::sequence_id> all;
    for (std::uint64_t seed = 0; seed < 8; ++seed)
        all.push_back(now.create(text(10 + 5 * seed, seed)).value().id);
    const std::vector<kv::token_id> token{1};
    std::vector<kv::extension> step;
    for (const auto id : all)
        step.push_back({id, token});
    REQUIRE(now.extend(step));
    for (int count = 0; count < 500; ++count) {
        thread.drain(); // the model computes
        for (const auto id : all) {
            auto& cache = *now.manager->cache(id);
            REQUIRE(cache.ready() > cache.tokens());
        }
        REQUIRE(now.extend(step));
    }
    now.require_same();
    CHECK(now.manager->stats().look_ahead_failures == 0);
    // Never more than was asked for, and the part of a page.
    for (const auto id : all)
        CHECK(now.manager->cache(id)->ready() <= now.manager->cache(id)->tokens() + 3 * a_page);
    CHECK(now.manager->verify());
}

TEST_CASE("At a limit, what nobody uses is given back by the same thread, before it is needed") {
    host_backend memory;
    mapper thread;
    const std::size_t together = engine_type::pages_together;
    engine_type::pool_type pool{memory, {.limit = 4_KiB * (20 * together)}};
    engine_type now{pool, 2048, ahead_with(thread)};
    for (std::uint64_t seed = 10; seed < 14; ++seed) { // 16 pages of prefixes
        const auto old = now.create(text(4 * a_page, seed)).value().id;
        REQUIRE(now.manager->try_record(old));
        REQUIRE(now.release(old));
    }
    const auto one = now.create(text(2 * a_page, 1)).value().id;
    for (int count = 0; count < static_cast<int>(12 * a_page); ++count) {
        const bytes meanwhile = now.manager->room(); // whatever the thread is at
        thread.drain();
        REQUIRE(now.manager->room() == meanwhile);
        REQUIRE(now.extend(one, {count}));
    }
    thread.drain();
    now.require_same();
    CHECK(now.manager->stats().recorded < pool.chunk_size() * (16 * together));
    CHECK(now.manager->stats().preemptions == 0);
    CHECK(now.manager->verify());
}

TEST_CASE("Pages that the thread could not give back are given back later") {
    using failing_backend = adaptors::failing<host_backend>;
    using failing_engine = engine<shared_layer<failing_backend>>;
    host_backend memory;
    failing_backend backend{memory};
    mapper thread;
    const std::size_t together = engine_type::pages_together;
    failing_engine::pool_type pool{backend, {.limit = 4_KiB * (20 * together)}};
    auto options = failing_engine::plain();
    options.thread = &thread;
    options.tokens_ahead = 2 * a_page;
    failing_engine now{pool, 2048, options};
    for (std::uint64_t seed = 10; seed < 14; ++seed) {
        const auto old = now.create(text(4 * a_page, seed)).value().id;
        REQUIRE(now.manager->try_record(old));
        REQUIRE(now.release(old));
    }
    const auto one = now.create(text(2 * a_page, 1)).value().id;
    backend.fail_if([](const adaptors::call& seen) { return seen.what == verb::unmap; },
                    errc::native_failure);
    for (int count = 0; count < static_cast<int>(8 * a_page); ++count) {
        thread.drain();
        if (!now.extend(one, {count}))
            break;
    }
    thread.drain();
    CHECK(backend.failures() > 0);
    backend.disarm();
    now.require_same();
    REQUIRE(now.release(one));
    REQUIRE(now.manager->resize_limit(4_KiB));
    CHECK(pool.stats().in_use == bytes{0});
    CHECK(now.manager->verify());
}

TEST_CASE("Statistics are read while the manager works") {
    host_backend memory;
    mapper thread;
    engine_type::pool_type pool{memory, {.limit = 4_KiB * 400}};
    engine_type now{pool, 2048, ahead_with(thread)};
    std::atomic<bool> done{false};
    std::size_t seen = 0;
    std::thread reader{[&] {
        while (!done) {
            const auto figures = now.manager->stats();
            seen += figures.running <= 4 ? 1 : 0;
            std::this_thread::yield();
        }
    }};
    for (std::uint64_t round = 0; round < 30; ++round) {
        std::vector<kv::sequence_id> all;
        for (std::uint64_t seed = 0; seed < 3; ++seed)
            all.push_back(now.create(text(60, seed + round % 4)).value().id);
        for (int count = 0; count < 40; ++count)
            for (const auto id : all)
                REQUIRE(now.extend(id, {count}));
        REQUIRE(now.manager->try_record(all[0]));
        for (const auto id : all)
            REQUIRE(now.release(id));
    }
    done = true;
    reader.join();
    CHECK(seen > 0);
    CHECK(now.manager->verify());
}

TEST_CASE("A mapper needs a pool that two threads may use") {
    host_backend memory;
    mapper thread;
    using layer_type = kv::per_layer_cache<float, host_backend>;
    using manager_type = kv::manager<kv::kv_cache<layer_type>>;
    layer_type::pool_type pool{memory, {}};
    manager_type::options_type options;
    options.thread = &thread;
    const kv::model_shape shape{1, {1, 8, 8, 64}};
    CHECK(manager_type::try_create(pool, shape, options).status().code() == errc::unsupported);
    options.thread = nullptr;
    const auto alone = manager_type::try_create(pool, shape, options).value();
    CHECK(alone->try_create(text(5)));
    CHECK(alone->verify());
}
