// SPDX-License-Identifier: Apache-2.0
//
// Random lives of a layer in every layout, against a plain copy of its rows.
#include "layouts.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/policy/defrag.hpp>

using namespace vtensor;
using namespace vtensor::testing;

static_assert(kv::layer_cache<per_layer<float, host_backend>>);
static_assert(kv::layer_cache<per_head<float16, host_backend>>);
static_assert(kv::layer_cache<packed<bfloat16, host_backend>>);

namespace {

template <class Cache>
status defragment(Cache& cache, int policy, std::vector<defrag::plan>& plans) {
    switch (policy) {
    case 0:
        return cache.try_defragment(defrag::none{}, plans);
    case 1:
        return cache.try_defragment(defrag::compact{}, plans);
    case 2:
        return cache.try_defragment(defrag::swap_with_last{}, plans);
    case 3:
        return cache.try_defragment(defrag::remap{}, plans);
    case 4:
        return cache.try_defragment(defrag::hybrid{}, plans);
    default:
        return cache.try_defragment(defrag::incremental<4096>{}, plans);
    }
}

/// Rows of 24 and 40 bytes straddle pages; heads of 33 tokens at most a step.
template <class Cache>
void live_at_random(int steps) {
    host_backend memory;
    layer_pool<host_backend> pool{memory, {.chunk_size = 4_KiB}};
    const kv::layer_shape shape{.kv_heads = 3, .key_width = 6, .value_width = 10, .max_rows = 700};
    auto cache = Cache::try_create(pool, shape).value();
    plain_layer truth{shape};
    eviction::kept_rows kept;
    std::vector<defrag::plan> plans(shape.kv_heads);
    std::size_t since_append = 0; // rows that may be taken back
    for (int step = 0; step < steps; ++step) {
        const int what = static_cast<int>(truth.random() % 8);
        if (what < 4) {
            const std::size_t count = truth.random() % 33;
            const bool fits = [&] {
                for (std::size_t head = 0; head < shape.kv_heads; ++head)
                    if (cache.rows(head) + count > shape.max_rows)
                        return false;
                return true;
            }();
            const status outcome = cache.try_append(count);
            REQUIRE(outcome.ok() == fits);
            if (!fits) {
                REQUIRE(outcome.code() == errc::limit_exceeded);
                truth.require_same(cache);
                continue;
            }
            truth.append(cache, count);
            since_append = count;
        } else if (what == 4 && since_append > 0) {
            cache.remove_last(since_append);
            truth.remove_last(since_append);
            since_append = 0;
        } else if (what == 5) {
            truth.evict(cache, 0.1 * static_cast<double>(truth.random() % 11), kept);
            REQUIRE(cache.try_evict(kept, 0));
            since_append = 0;
        } else if (what > 5) {
            const int policy = static_cast<int>(truth.random() % 6);
            REQUIRE(defragment(cache, policy, plans));
            since_append = 0;
        }
        truth.require_same(cache);
        REQUIRE(pool.verify());
    }
}

} // namespace

TEST_CASE("a layer holds the rows it should, whatever happens to it, in every layout") {
    SECTION("per layer, float") { live_at_random<per_layer<float, host_backend>>(400); }
    SECTION("per head, half") { live_at_random<per_head<float16, host_backend>>(400); }
    SECTION("packed, float") { live_at_random<packed<float, host_backend>>(400); }
}

TEST_CASE("compacting keeps the order of the rows in every layout") {
    const auto keeps_order = [](auto cache_type) {
        using cache_of = typename decltype(cache_type)::type;
        host_backend memory;
        layer_pool<host_backend> pool{memory};
        const kv::layer_shape shape{.kv_heads = 2, .key_width = 8, .value_width = 8, .max_rows = 500};
        auto cache = cache_of::try_create(pool, shape).value();
        plain_layer truth{shape};
        eviction::kept_rows kept;
        std::vector<defrag::plan> plans(shape.kv_heads);
        for (int round = 0; round < 5; ++round) {
            REQUIRE(cache.try_append(90));
            truth.append(cache, 90);
            truth.evict(cache, 0.4, kept);
            REQUIRE(cache.try_evict(kept, 0));
            REQUIRE(cache.try_defragment(defrag::compact{}, plans));
            truth.require_same(cache, true);
            for (std::size_t head = 0; head < shape.kv_heads; ++head)
                CHECK(cache.rows(head) == cache.live_rows(head));
        }
    };
    keeps_order(std::type_identity<per_layer<float, host_backend>>{});
    keeps_order(std::type_identity<per_head<float, host_backend>>{});
    keeps_order(std::type_identity<packed<float, host_backend>>{});
}

TEST_CASE("the plans that are handed back move an array of the caller as the rows were moved") {
    host_backend memory;
    layer_pool<host_backend> pool{memory};
    const kv::layer_shape shape{.kv_heads = 2, .key_width = 4, .value_width = 4, .max_rows = 300};
    auto cache = packed<float, host_backend>::try_create(pool, shape).value();
    plain_layer truth{shape};
    REQUIRE(cache.try_append(200));
    truth.append(cache, 200);
    std::vector<std::vector<position_type>> mine(shape.kv_heads, std::vector<position_type>(200));
    for (auto& positions : mine)
        for (std::size_t slot = 0; slot < positions.size(); ++slot)
            positions[slot] = static_cast<position_type>(slot);
    eviction::kept_rows kept;
    truth.evict(cache, 0.3, kept);
    REQUIRE(cache.try_evict(kept, 0));
    std::vector<defrag::plan> plans(shape.kv_heads);
    REQUIRE(cache.try_defragment(defrag::swap_with_last{}, plans));
    for (std::size_t head = 0; head < shape.kv_heads; ++head) {
        defrag::apply(plans[head], std::span{mine[head]});
        REQUIRE(plans[head].rows_after == cache.rows(head));
        for (std::size_t slot = 0; slot < cache.rows(head); ++slot)
            CHECK(mine[head][slot] == cache.positions(head)[slot]);
    }
}
