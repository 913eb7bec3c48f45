// SPDX-License-Identifier: Apache-2.0
//
// Random lives of a sequence in every layout against plain copies of its layers: appends, memory ahead,
// truncation, trims, evictions of ragged heads and defragmentation.
#include "cache_scene.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/policy/defrag.hpp>
#include <vtensor/policy/growth.hpp>

#include <random>
#include <utility>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

template <class Cache>
bool fits(Cache& cache, std::size_t count) {
    for (std::size_t layer = 0; layer < cache.shape().layers; ++layer)
        for (std::size_t head = 0; head < cache.shape().layer.kv_heads; ++head)
            if (cache.layer(layer).rows(head) + count > cache.shape().layer.max_rows)
                return false;
    return true;
}

template <class Layer>
void live_at_random(int steps, const typename kv::kv_cache<Layer>::options_type& options) {
    host_backend memory;
    typename Layer::pool_type pool{memory, {.chunk_size = 4_KiB}};
    const kv::model_shape shape{.layers = 3,
                                .layer = {.kv_heads = 3, .key_width = 6, .value_width = 10, .max_rows = 500}};
    kv::token_counts elsewhere;
    sequence<Layer> one{pool, shape, options};
    auto& cache = one.cache;
    std::mt19937 random{20261121}; // NOLINT: the same in every run
    for (int step = 0; step < steps; ++step) {
        if (random() % 8 == 0)
            cache.keep_counts_in(random() % 2 == 0 ? &elsewhere : nullptr);
        switch (random() % 10) {
        case 0:
        case 1:
        case 2:
        case 3: {
            const std::size_t count = random() % 40;
            const bool possible = fits(cache, count);
            const status outcome = cache.try_append(count);
            REQUIRE(outcome.ok() == possible);
            if (possible)
                one.write(count);
            else
                REQUIRE(outcome.code() == errc::limit_exceeded);
            break;
        }
        case 4: {
            const std::size_t count = random() % 60;
            const std::size_t goal = cache.tokens() + count;
            const bool possible = fits(cache, count);
            REQUIRE(cache.try_prepare(goal).ok() == possible);
            REQUIRE((!possible || cache.ready() >= goal));
            break;
        }
        case 5:
            one.truncate(cache.tokens() - random() % (cache.tokens() + 1) / 3);
            break;
        case 6: {
            const bytes before = cache.figures().mapped;
            REQUIRE(cache.try_trim(random() % 2 == 0 ? 0 : cache.tokens() + random() % 50));
            REQUIRE(cache.figures().mapped <= before);
            break;
        }
        case 7:
            one.evict(0.1 * static_cast<double>(random() % 11));
            break;
        case 8:
            one.defragment(defrag::compact{});
            break;
        default:
            one.defragment(defrag::swap_with_last{});
        }
        one.require_same();
        REQUIRE(pool.verify());
    }
}

template <class Layer>
void all_lives() {
    live_at_random<Layer>(300, {});
    live_at_random<Layer>(150, {.tokens_a_growth = 0});
}

template <class T, class Growth>
using growing = kv::per_head_cache<T, host_backend, Growth>;

/// Heads evicted to different lengths and brought together, then 64 more tokens, and evictions between them.
template <class Layer, class Policy>
void decode_after_eviction(const Policy& policy) {
    host_backend memory;
    layer_pool<host_backend> pool{memory};
    const kv::model_shape shape{
        .layers = 4, .layer = {.kv_heads = 4, .key_width = 16, .value_width = 16, .max_rows = 400}};
    sequence<Layer> one{pool, shape};
    one.append(150);
    for (std::size_t layer = 0; layer < shape.layers; ++layer) { // 10 % to 70 %, by head
        eviction::kept_rows kept;
        REQUIRE(kept.reset(1, shape.layer.kv_heads));
        for (std::size_t head = 0; head < shape.layer.kv_heads; ++head) {
            std::vector<slot_type> slots;
            for (slot_type slot = 0; slot < 150; ++slot)
                if (slot * (layer + 3) % 10 < 1 + 2 * head)
                    slots.push_back(slot);
            REQUIRE(kept.add(slots));
        }
        one.truth[layer].keep_only(one_layer<kv::kv_cache<Layer>>{one.cache, layer}, kept);
        REQUIRE(one.cache.try_evict(layer, kept, 0));
    }
    one.defragment(policy);
    one.require_same();
    for (int token = 0; token < 64; ++token) {
        one.append(1);
        if (token % 16 == 15) {
            one.evict(0.8);
            one.defragment(policy);
        }
    }
    one.require_same();
    CHECK(one.cache.tokens() == 150 + 64);
}

} // namespace

TEST_CASE("a sequence holds what it should in every layer, whatever happens to it: per layer") {
    all_lives<per_layer<float, host_backend>>();
}
TEST_CASE("a sequence holds what it should in every layer, whatever happens to it: per head") {
    all_lives<per_head<float16, host_backend>>();
    live_at_random<growing<float, growth::geometric<3, 2>>>(150, {.tokens_a_growth = 0});
}
TEST_CASE("a sequence holds what it should in every layer, whatever happens to it: packed") {
    all_lives<packed<float, host_backend>>();
}

TEST_CASE("after heads were evicted to different lengths 64 more tokens find their place") {
    SECTION("per layer") { decode_after_eviction<per_layer<float, host_backend>>(defrag::compact{}); }
    SECTION("per head") { decode_after_eviction<per_head<float, host_backend>>(defrag::hybrid{}); }
    SECTION("packed") { decode_after_eviction<packed<float, host_backend>>(defrag::compact{}); }
    SECTION("packed, without order") {
        decode_after_eviction<packed<float, host_backend>>(defrag::swap_with_last{});
    }
}

TEST_CASE("what cannot be is refused, and nothing has changed") {
    host_backend memory;
    layer_pool<host_backend> pool{memory};
    using cache_type = kv::kv_cache<per_layer<float, host_backend>>;
    CHECK(cache_type::try_create(pool, {0, {1, 8, 8, 100}}).code() == errc::invalid_argument);
    CHECK(cache_type::try_create(pool, {2, {1, 8, 0, 100}}).code() == errc::invalid_argument);
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    CHECK(cache_type::try_create(pool, {2, {1, 8, 8, most}}).code() == errc::out_of_addresses);
    CHECK(cache_type::try_create(pool, {most, {1, 8, 8, 100}}).code() == errc::out_of_memory);

    auto cache = cache_type::try_create(pool, {2, {1, 8, 8, 100}}).value();
    REQUIRE(cache.try_append(60));
    CHECK(cache.try_append(41).code() == errc::limit_exceeded);
    CHECK(cache.try_append(most).code() == errc::limit_exceeded);
    CHECK(cache.try_prepare(101).code() == errc::limit_exceeded);
    CHECK(cache.tokens() == 60);
    eviction::kept_rows kept;
    REQUIRE(kept.reset(1, 1));
    REQUIRE(kept.add(std::vector<slot_type>{0}));
    CHECK(cache.try_evict(kept).code() == errc::invalid_argument); // one layer of two
    CHECK(cache.try_evict(2, kept, 0).code() == errc::invalid_argument);
    CHECK(cache.try_evict(1, kept, 1).code() == errc::invalid_argument);
    std::vector<defrag::plan> plans(1);
    CHECK(cache.try_defragment(2, defrag::compact{}, plans).code() == errc::invalid_argument);
    CHECK(cache.verify());

    auto moved = std::move(cache);
    CHECK(moved.tokens() == 60);
    CHECK(moved.layer(1).rows(0) == 60);
    CHECK(cache.tokens() == 0); // NOLINT: that is the point
    CHECK(cache.try_append(1).code() == errc::invalid_argument);
    CHECK(cache.try_append(0));
    CHECK(cache.figures().mapped == bytes{0});
    CHECK(cache.verify());
    cache = std::move(moved);
    CHECK(cache.tokens() == 60);
    CHECK(cache.try_append(40));
}

TEST_CASE("the numbers of a cache can be kept where others count on, and come back") {
    using cache_type = kv::kv_cache<per_layer<float, host_backend>>;
    host_backend memory;
    layer_pool<host_backend> pool{memory};
    const kv::model_shape shape{.layers = 3,
                                .layer = {.kv_heads = 2, .key_width = 8, .value_width = 8, .max_rows = 1000}};
    kv::token_counts place;
    auto cache = cache_type::try_create(pool, shape).value();
    REQUIRE(cache.try_append(10));
    cache.keep_counts_in(&place);
    CHECK(place.tokens() == 10);
    CHECK(place.ready() == cache.ready());
    CHECK(place.try_add(cache.ready() - 10));
    CHECK_FALSE(place.try_add(1)); // not ready: that is the cache's to do
    CHECK(cache.tokens() == place.ready());
    CHECK(cache.layer(2).rows(1) == cache.tokens());
    REQUIRE(cache.try_append(1));
    CHECK(place.tokens() == cache.tokens());
    CHECK(place.ready() > place.tokens());
    cache.truncate(5);
    REQUIRE(cache.try_trim());
    CHECK(place.tokens() == 5);
    CHECK(place.ready() == cache.ready());
    CHECK(cache.verify());

    cache_type moved{std::move(cache)};
    CHECK(moved.tokens() == 5);
    CHECK(cache.tokens() == 0); // NOLINT: what is left of it
    CHECK(cache.ready() == 0);
    REQUIRE(moved.try_append(1));
    CHECK(place.tokens() == 5); // nobody counts there any more
    moved.keep_counts_in(&place);
    REQUIRE(moved.try_append(1));
    CHECK(place.tokens() == 7);
    moved.keep_counts_in(nullptr);
    REQUIRE(moved.try_append(1));
    CHECK(moved.tokens() == 8);
    CHECK(place.tokens() == 7);
    cache = std::move(moved);
    CHECK(cache.tokens() == 8);
    CHECK(cache.verify());
}

TEST_CASE("an eviction from all layers is for all of them or for none") {
    host_backend memory;
    layer_pool<host_backend> pool{memory};
    const kv::model_shape shape{.layers = 3,
                                .layer = {.kv_heads = 2, .key_width = 8, .value_width = 8, .max_rows = 100}};
    sequence<packed<float, host_backend>> one{pool, shape};
    one.append(50);
    eviction::kept_rows kept;
    const auto choose = [&](slot_type last_of_last_layer) {
        REQUIRE(kept.reset(3, 2));
        for (std::size_t each = 0; each < 6; ++each)
            REQUIRE(kept.add(std::vector<slot_type>{1, 7, each == 5 ? last_of_last_layer : 49}));
    };
    choose(50);
    CHECK(one.cache.try_evict(kept).code() == errc::invalid_argument);
    one.require_same();
    CHECK(one.cache.figures().live_rows == 50 * 6);
    choose(48);
    REQUIRE(one.cache.try_evict(kept));
    CHECK(one.cache.figures().live_rows == 3 * 6);
    CHECK(one.cache.ready() >= 64); // the eviction took no room away
    one.truth[0].keep_only(one_layer<decltype(one.cache)>{one.cache, 0}, kept);
    CHECK(one.truth[0].heads[1].size() == 3);
}
