// SPDX-License-Identifier: Apache-2.0
//
// Every backend call of appending and defragmenting made to fail in turn: the rows are as they were, and no
// memory is lost.
#include "layouts.hpp"

#include "support/fault_loop.hpp"
#include "support/kernel_figures.hpp"

#include <vtensor/adaptors/counting.hpp>
#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

using counted = adaptors::counting<host_backend>;
using faulty = adaptors::failing<counted>;

template <class Cache>
struct scene {
    host_backend memory;
    counted below{memory};
    faulty backend{below};
    layer_pool<faulty> pool{backend, {.chunk_size = 4_KiB}};
    kv::layer_shape shape{.kv_heads = 2, .key_width = 64, .value_width = 32, .max_rows = 2000};
    Cache cache{Cache::try_create(pool, shape).value()};
    plain_layer truth{shape};
    eviction::kept_rows kept;
    std::vector<defrag::plan> plans = std::vector<defrag::plan>(shape.kv_heads);

    void append(std::size_t count) {
        REQUIRE(cache.try_append(count));
        truth.append(cache, count);
    }
};

template <class Cache>
void append_under_failures(fault_length length) {
    scene<Cache> here;
    here.append(50);
    const bytes mapped = here.cache.figures().mapped;
    const std::size_t failures = for_each_failing_call(
        here.backend, [&] { return here.cache.try_append(300); },
        [&](std::size_t) {
            here.truth.require_same(here.cache);
            CHECK(here.pool.verify());
            if (length == fault_length::one)
                CHECK(here.cache.figures().mapped == mapped);
        },
        errc::out_of_memory, length);
    CHECK(failures >= 4);
    here.truth.append(here.cache, 300);
    here.truth.require_same(here.cache);
}

/// Head by head: a failure leaves every head in its old or its new state, so that its rows are all there.
template <class Cache, class Policy>
std::size_t defragment_under_failures(const Policy& policy, fault_length length) {
    scene<Cache> here;
    here.append(900);
    here.truth.evict(here.cache, 0.3, here.kept);
    REQUIRE(here.cache.try_evict(here.kept, 0));
    const auto is_dense = [&] {
        return here.cache.rows(0) == here.cache.live_rows(0) && here.cache.rows(1) == here.cache.live_rows(1);
    };
    const std::size_t failures = for_each_failing_call(
        here.backend, [&] { return here.cache.try_defragment(policy, here.plans); },
        [&](std::size_t) {
            here.truth.require_same(here.cache);
            CHECK(here.pool.verify());
        },
        [&] { // it could do without the call: the pages stay mapped, or leave at the second try
            here.truth.require_same(here.cache);
            here.append(300); // and the memory serves what comes next
            here.truth.evict(here.cache, 0.5, here.kept);
            REQUIRE(here.cache.try_evict(here.kept, 0));
        },
        errc::native_failure, length);
    here.truth.require_same(here.cache);
    if (!std::is_same_v<Policy, defrag::remap>)
        CHECK(is_dense());
    return failures;
}

template <class Cache>
void all_failures() {
    for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
        append_under_failures<Cache>(length);
        CHECK(defragment_under_failures<Cache>(defrag::compact{}, length) > 0);
        CHECK(defragment_under_failures<Cache>(defrag::swap_with_last{}, length) > 0);
    }
}

} // namespace

TEST_CASE("a failing call leaves a layer's rows as they were, in every layout") {
    SECTION("per layer") { all_failures<per_layer<float, faulty>>(); }
    SECTION("per head") { all_failures<per_head<float, faulty>>(); }
    SECTION("packed") { all_failures<packed<float, faulty>>(); }
}

TEST_CASE("nothing is left of a layer, whatever failed in its life") {
    host_backend memory;
    counted below{memory};
    faulty backend{below};
    const auto live = [&](auto cache_type) {
        using cache_of = typename decltype(cache_type)::type;
        for (std::size_t k = 1; k < 200; k += 7) {
            layer_pool<faulty> pool{backend};
            backend.fail_calls(k, 2, errc::out_of_memory);
            auto made = cache_of::try_create(pool, {2, 16, 16, 1000});
            if (made) {
                static_cast<void>(made->try_append(400));
                static_cast<void>(made->try_append(400));
                made->remove_last(10);
            }
            backend.disarm();
        }
        CHECK(kernel_memory_file_bytes() == bytes{0});
        const auto calls = below.snapshot();
        CHECK(calls[verb::create].size == calls[verb::destroy].size);
        CHECK(calls[verb::reserve].size == calls[verb::release].size);
        CHECK(calls[verb::map].size == calls[verb::unmap].size);
    };
    live(std::type_identity<per_layer<float, faulty>>{});
    live(std::type_identity<per_head<float, faulty>>{});
    live(std::type_identity<packed<float, faulty>>{});
}
