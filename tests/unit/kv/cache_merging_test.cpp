// SPDX-License-Identifier: Apache-2.0
//
// Sequences that computed the same beginning, each by itself, come to hold it once over all layers: by the
// kernel's figures and by plain copies; and a call that fails in any layer changes neither.
#include "cache_pair.hpp"

#include "support/death.hpp"
#include "support/fault_loop.hpp"
#include "support/kernel_figures.hpp"

#include <vtensor/backends/host.hpp>

#include <cstddef>
#include <memory>
#include <type_traits>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// As many rows as in all others with the same count, and `more` that are its own.
template <class Layer>
void append_alike(sequence<Layer>& one, std::size_t count, std::size_t more, unsigned seed) {
    one.append(count);
    for (plain_layer& layer : one.truth)
        layer.random.seed(seed);
    one.append(more);
}

template <class Layer>
void comes_together() {
    constexpr bool copies = std::is_same_v<Layer, packed<float, host_backend>>;
    constexpr std::size_t tensors = 2 * model.layers;
    host_backend memory;
    layer_pool<host_backend> pool{memory, {.chunk_size = 4_KiB}};
    std::vector<std::unique_ptr<sequence<Layer>>> all;
    for (unsigned index = 0; index < 5; ++index) {
        all.push_back(
            std::make_unique<sequence<Layer>>(pool, model,
                                              typename sequence<Layer>::cache_type::options_type{
                                                  .tokens_a_growth = 0, .room = {.least = 0, .share = 0}}));
        append_alike(*all.back(), 100, 30, index);
    }
    const bytes alone = all[0]->cache.figures().mapped;
    REQUIRE(kernel_memory_file_bytes() == 5 * alone);
    std::size_t merged = 0;
    for (std::size_t index = 1; index < all.size(); ++index) {
        auto& cache = all[index]->cache;
        const std::size_t ready = cache.ready();
        const float* const keys = cache.keys(0, 0).data;
        REQUIRE(cache.try_merge_prefix_of(all[index / 2]->cache, 100)); // 6 whole pages, and a part
        merged += copies ? 0 : 6 * tensors;
        REQUIRE(pool.trim());
        CHECK(kernel_memory_file_bytes() == 5 * alone - 4_KiB * merged);
        CHECK(pool.stats().aliases == merged);
        CHECK(cache.shared_bytes() == 4_KiB * (copies ? 0 : 6 * tensors));
        CHECK(cache.figures().mapped == alone);
        CHECK(cache.ready() == ready);
        CHECK(cache.keys(0, 0).data == keys);
    }
    for (auto& one : all) {
        one->require_same();
        CHECK(writing_faults(&one->cache.keys(1, 0)(95, 0)) == !copies);
        CHECK_FALSE(writing_faults(&one->cache.values(model.layers - 1, 0)(96, 0)));
    }
    overwrite(*all[0], 10, 30); // whom the others have their pages from
    overwrite(*all[3], 0, 120);
    all[1]->truncate(50);
    for (auto& one : all)
        one->append(20);
    for (auto& one : all)
        one->require_same();
    CHECK(pool.verify());
    all.clear();
    CHECK(pool.stats().in_use == bytes{0});
}

template <class Layer>
void fail_each_call_of_a_merge(fault_length length) {
    using pair = pair_of_sequences<Layer>;
    const auto alike = [](pair& here) { append_alike(here.other, 60, 10, 7); };
    const std::size_t failed = fail_each_call<Layer>(
        length, alike, [](pair& here) { return here.other.cache.try_merge_prefix_of(here.donor.cache, 60); });
    if (!std::is_same_v<Layer, packed<float, faulty>>)
        CHECK(failed == 2 * model.layers * 6); // protected, unmapped, mapped three times, opened
    const auto nearly_the_same = [](pair& here) {
        here.share(56);
        overwrite(here.other, 20, 1);
        overwrite(here.donor, 20, 1);
    };
    const std::size_t once = fail_each_call<Layer>(length, nearly_the_same, [](pair& here) {
        return here.other.cache.try_merge_prefix_of(here.donor.cache, 56);
    });
    if (!std::is_same_v<Layer, packed<float, faulty>>)
        CHECK(once == 2 * model.layers * 4);
}

} // namespace

TEST_CASE("a beginning that every sequence computed for itself is in memory once after it was merged") {
    SECTION("per layer") { comes_together<per_layer<float, host_backend>>(); }
    SECTION("per head") { comes_together<per_head<float, host_backend>>(); }
    SECTION("packed: each keeps its own") { comes_together<packed<float, host_backend>>(); }
}

TEMPLATE_TEST_CASE("merging that fails at any call has changed neither sequence", "",
                   (per_layer<float, faulty>), (per_head<float, faulty>), (packed<float, faulty>)) {
    fail_each_call_of_a_merge<TestType>(fault_length::one);
    fail_each_call_of_a_merge<TestType>(fault_length::with_undo);
}

TEST_CASE("sequences that cannot be merged are refused, and nothing is called") {
    using layer_type = per_layer<float, faulty>;
    host_backend memory;
    faulty backend{memory};
    layer_pool<faulty> pool{backend, {.chunk_size = 4_KiB}};
    layer_pool<faulty> other_pool{backend, {.chunk_size = 4_KiB}};
    sequence<layer_type> donor{pool, model};
    sequence<layer_type> other{pool, model};
    sequence<layer_type> elsewhere{other_pool, model};
    auto shape = model;
    shape.layers = 1;
    sequence<layer_type> smaller{pool, shape};
    donor.append(50);
    other.append(40);
    elsewhere.append(50);
    smaller.append(50);
    backend.fail_from(1, errc::native_failure);
    CHECK(other.cache.try_merge_prefix_of(donor.cache, 41).code() == errc::invalid_argument);
    CHECK(donor.cache.try_merge_prefix_of(other.cache, 41).code() == errc::invalid_argument);
    CHECK(donor.cache.try_merge_prefix_of(donor.cache, 40).code() == errc::invalid_argument);
    CHECK(elsewhere.cache.try_merge_prefix_of(donor.cache, 40).code() == errc::invalid_argument);
    CHECK(smaller.cache.try_merge_prefix_of(donor.cache, 40).code() == errc::invalid_argument);
    CHECK(other.cache.try_merge_prefix_of(donor.cache, 15)); // less than a page
    other.evict(0.5);
    CHECK(other.cache.try_merge_prefix_of(donor.cache, 40).code() == errc::unsupported);
    CHECK(donor.cache.try_merge_prefix_of(other.cache, 40).code() == errc::unsupported);
    backend.disarm();
    other.defragment(defrag::compact{});
    CHECK(other.cache.try_merge_prefix_of(donor.cache, 10).code() == errc::unsupported);
    other.require_same();
    donor.require_same();
}
