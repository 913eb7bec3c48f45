// SPDX-License-Identifier: Apache-2.0
//
// A growth of 32 layers is one transaction: whichever of its backend calls fails, nothing has changed, in the
// cache, in the pool and in the kernel's own list of mappings.
#include "cache_scene.hpp"

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

template <class Layer>
struct scene {
    host_backend memory;
    counted below{memory};
    faulty backend{below};
    layer_pool<faulty> pool{backend, {.chunk_size = 4_KiB}};
    kv::model_shape shape{.layers = 32,
                          .layer = {.kv_heads = 1, .key_width = 128, .value_width = 128, .max_rows = 400}};
    sequence<Layer> one{pool, shape, {.tokens_a_growth = 0, .room = {.least = 2, .share = 0}}};
    using state = state_of_memory<typename sequence<Layer>::cache_type>;

    /// 64 tensors with two pages each, and rows whose content is known.
    scene() { one.append(14); }
};

template <class Layer>
void grow_under_failures(fault_length length) {
    scene<Layer> here;
    auto& cache = here.one.cache;
    const typename scene<Layer>::state before{cache};
    REQUIRE(before.lines.size() > 0);
    const auto unchanged = [&](std::size_t) {
        CHECK(typename scene<Layer>::state{cache} == before);
        CHECK(cache.verify());
        CHECK(here.pool.verify());
    };
    const std::size_t failures = for_each_failing_call(
        here.backend, [&] { return cache.try_append(15); }, unchanged, errc::native_failure, length);
    CHECK(failures >= 64 * 4); // two chunks made, two mapped, in every tensor
    here.one.write(15);
    here.one.require_same();
}

/// Memory is short from a call on: what is a wish is given up first, then the rest is undone.
template <class Layer>
void grow_with_too_little_memory() {
    scene<Layer> here;
    auto& cache = here.one.cache;
    const typename scene<Layer>::state before{cache};
    for (std::size_t k = 1;; k += 7) {
        here.backend.fail_from(k, errc::out_of_memory, {verb::create, verb::map, verb::set_access});
        const status outcome = cache.try_append(15);
        here.backend.disarm();
        if (outcome)
            break;
        CHECK(outcome.code() == errc::out_of_memory);
        CHECK(typename scene<Layer>::state{cache} == before);
        CHECK(cache.verify());
    }
    here.one.write(15);
    here.one.require_same();
}

template <class Layer>
void all_failures() {
    grow_under_failures<Layer>(fault_length::one);
    grow_under_failures<Layer>(fault_length::with_undo);
    grow_with_too_little_memory<Layer>();
}

/// Making, growing, truncating, trimming and going: the kernel has nothing left, and no call is unmatched.
template <class Layer>
void nothing_is_left() {
    host_backend memory;
    counted below{memory};
    faulty backend{below};
    for (std::size_t k = 1; k < 400; k += 13) {
        layer_pool<faulty> pool{backend};
        backend.fail_calls(k, 2, errc::out_of_memory);
        auto made = kv::kv_cache<Layer>::try_create(pool, {4, {2, 16, 16, 1000}});
        if (made) {
            static_cast<void>(made->try_append(100));
            static_cast<void>(made->try_prepare(400));
            static_cast<void>(made->try_append(200));
            made->truncate(50);
            static_cast<void>(made->try_trim());
            CHECK(made->verify());
        }
        backend.disarm();
    }
    CHECK(kernel_memory_file_bytes() == bytes{0});
    const auto calls = below.snapshot();
    CHECK(calls[verb::create].size == calls[verb::destroy].size);
    CHECK(calls[verb::reserve].size == calls[verb::release].size);
    CHECK(calls[verb::map].size == calls[verb::unmap].size);
}

} // namespace

TEST_CASE("a growth of 64 tensors that fails at any call has changed nothing: per layer") {
    all_failures<per_layer<float, faulty>>();
}
TEST_CASE("a growth of 64 tensors that fails at any call has changed nothing: per head") {
    all_failures<per_head<float, faulty>>();
}
TEST_CASE("a growth of 64 tensors that fails at any call has changed nothing: packed") {
    all_failures<packed<float, faulty>>();
}

TEST_CASE("nothing is left of a cache, whatever failed in its life") {
    SECTION("per layer") { nothing_is_left<per_layer<float, faulty>>(); }
    SECTION("per head") { nothing_is_left<per_head<float, faulty>>(); }
    SECTION("packed") { nothing_is_left<packed<float, faulty>>(); }
}

TEST_CASE("a trim that the backend refuses keeps every row, and the next one ends it") {
    const auto trims = [](auto layer) {
        using layer_type = typename decltype(layer)::type;
        scene<layer_type> here;
        auto& cache = here.one.cache;
        REQUIRE(cache.try_prepare(200));
        const std::size_t failures = for_each_failing_call(
            here.backend, [&] { return cache.try_trim(); },
            [&](std::size_t) {
                here.one.require_same();
                CHECK(cache.ready() >= cache.tokens());
                REQUIRE(cache.try_prepare(200));
            },
            errc::native_failure);
        CHECK(failures == 64);
        here.one.require_same();
        CHECK(cache.figures().mapped < 64 * 5 * 4_KiB);
    };
    trims(std::type_identity<per_layer<float, faulty>>{});
    trims(std::type_identity<per_head<float, faulty>>{});
    trims(std::type_identity<packed<float, faulty>>{});
}
