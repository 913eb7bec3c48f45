// SPDX-License-Identifier: Apache-2.0
//
// A sequence copied to plain memory and back: the same rows, in another cache or over old ones.
#include "cache_scene.hpp"

#include "support/reference_backend.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/kv/per_head_cache.hpp>

#include <cstddef>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr kv::model_shape model{
    .layers = 3, .layer = {.kv_heads = 2, .key_width = 12, .value_width = 20, .max_rows = 300}};

template <class Layer>
void out_and_back() {
    host_backend memory;
    layer_pool<host_backend> pool{memory};
    sequence<Layer> one{pool, model};
    one.append(130);
    REQUIRE(one.cache.try_append(1)); // not in the layers yet
    one.write(1);
    std::vector<std::byte> plain(one.cache.saved_size().count());
    CHECK(plain.size() == 131 * 3 * 2 * 32 * sizeof(typename Layer::value_type));
    REQUIRE(one.cache.save(plain));

    one.cache.truncate(0);
    REQUIRE(one.cache.try_trim());
    REQUIRE(one.cache.load(plain, 131));
    one.require_same();

    sequence<Layer> other{pool, model}; // over rows that it shares with a third
    other.append(131);
    auto third = other.cache.try_fork().value();
    REQUIRE(other.cache.load(plain, 131));
    const auto mine = std::exchange(other.truth, one.truth);
    other.require_same();
    other.append(1);
    other.require_same();
    sequence<Layer> shared{pool, model};
    shared.cache = std::move(third);
    shared.truth = mine;
    shared.require_same(); // it kept what it had

    const std::span<std::byte> all{plain};
    CHECK(one.cache.save(all.first(all.size() - 1)).code() == errc::invalid_argument);
    CHECK(one.cache.load(all, 130).code() == errc::invalid_argument);
    CHECK(other.cache.load(all, 131).code() == errc::invalid_argument); // it has 132
    one.evict(0.5);
    CHECK(one.cache.save(all).code() == errc::unsupported);
    CHECK(one.cache.load(all, 131).code() == errc::unsupported);
    one.require_same();
}

} // namespace

TEST_CASE("a sequence that was saved is loaded as it was, in every layout") {
    SECTION("per layer") { out_and_back<per_layer<float, host_backend>>(); }
    SECTION("per head") { out_and_back<per_head<float16, host_backend>>(); }
    SECTION("packed") { out_and_back<packed<float, host_backend>>(); }
}

TEST_CASE("memory that the CPU does not reach cannot be saved") {
    reference_backend backend;
    layer_pool<reference_backend> pool{backend};
    auto cache = kv::kv_cache<per_head<float, reference_backend>>::try_create(pool, model).value();
    REQUIRE(cache.try_append(10));
    std::vector<std::byte> plain(cache.saved_size().count());
    CHECK(cache.save(plain).code() == errc::unsupported);
    cache.truncate(0);
    CHECK(cache.load(plain, 10).code() == errc::unsupported);
    CHECK(cache.tokens() == 0);
}
