// SPDX-License-Identifier: Apache-2.0
//
// Sequences that share a beginning, over all layers: what is in memory once, what each may write, and that a
// call that fails in any layer changes neither.
#include "cache_pair.hpp"

#include "support/death.hpp"
#include "support/fault_loop.hpp"
#include "support/kernel_figures.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/policy/defrag.hpp>
#include <vtensor/policy/sharing.hpp>

#include <algorithm>
#include <memory>
#include <random>
#include <utility>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

template <class Layer>
void shares_and_diverges() {
    host_backend memory;
    layer_pool<host_backend> pool{memory, {.chunk_size = 4_KiB}};
    sequence<Layer> donor{pool, model, {.tokens_a_growth = 0, .room = {.least = 0, .share = 0}}};
    donor.append(100);
    const bytes alone = kernel_memory_file_bytes();
    constexpr bool copies = std::is_same_v<Layer, packed<float, host_backend>>;
    std::vector<std::unique_ptr<sequence<Layer>>> others;
    for (std::size_t more = 1; more <= 4; ++more) {
        others.push_back(shared(donor, 100));
        // 100 rows are 6 whole pages of each tensor and a part of the next, which is copied
        const bytes each = 4_KiB * (copies ? 7 : 1) * (2 * model.layers);
        CHECK(kernel_memory_file_bytes() == alone + more * each);
        CHECK(others.back()->cache.shared_bytes() == (copies ? bytes{0} : 4_KiB * 6 * (2 * model.layers)));
        CHECK(others.back()->cache.figures().mapped == alone);
        others.back()->require_same();
    }
    CHECK(donor.cache.shared_bytes() == others[0]->cache.shared_bytes());
    if (!copies) {
        CHECK(writing_faults(&donor.cache.keys(1, 0)(0, 0)));
        CHECK(writing_faults(&others[1]->cache.values(model.layers - 1, 0)(95, 0)));
    }
    CHECK_FALSE(writing_faults(&others[1]->cache.values(model.layers - 1, 0)(96, 0)));
    for (auto& other : others)
        other->append(20);
    donor.append(3);
    overwrite(*others[2], 10, 30);
    overwrite(donor, 0, 1);
    others[1]->truncate(50); // inside a shared page, and on from there
    CHECK(others[1]->cache.try_prepare(52).code() == (copies ? errc::ok : errc::busy));
    others[1]->append(60);
    for (auto& other : others) {
        other->require_same();
        CHECK_FALSE(writing_faults(&other->cache.keys(0, 0)(101, 0)));
    }
    donor.require_same();
    CHECK(pool.verify());
    { const auto gone = std::move(donor.cache); }
    for (auto& other : others)
        other->require_same();
    others.clear();
    CHECK(pool.stats().in_use == bytes{0});
}

/// How many tokens two sequences begin with whose rows are equal in both. Nothing was evicted.
template <class Layer>
std::size_t equal_beginning(const sequence<Layer>& one, const sequence<Layer>& other) {
    std::size_t tokens = std::min(one.cache.tokens(), other.cache.tokens());
    for (std::size_t layer = 0; layer < one.truth.size(); ++layer)
        for (std::size_t head = 0; head < one.truth[layer].heads.size(); ++head) {
            const auto& rows = one.truth[layer].heads[head];
            const auto& others = other.truth[layer].heads[head];
            std::size_t equal = 0;
            while (equal < tokens && rows[equal].key == others[equal].key &&
                   rows[equal].value == others[equal].value)
                ++equal;
            tokens = equal;
        }
    return tokens;
}

/// Random lives of sequences that come from each other.
template <class Layer>
void family(int steps) {
    host_backend memory;
    layer_pool<host_backend> pool{memory, {.chunk_size = 4_KiB}};
    const kv::model_shape shape{
        .layers = 2, .layer = {.kv_heads = 2, .key_width = 30, .value_width = 50, .max_rows = 300}};
    std::vector<std::unique_ptr<sequence<Layer>>> all;
    all.push_back(std::make_unique<sequence<Layer>>(
        pool, shape, typename sequence<Layer>::cache_type::options_type{.tokens_a_growth = 16}));
    std::vector<bool> evicted{false};
    std::size_t merged = 0;        // pages
    std::mt19937 random{20261121}; // NOLINT: the same in every run
    for (int step = 0; step < steps; ++step) {
        const std::size_t index = random() % all.size();
        auto& one = *all[index];
        const std::size_t tokens = one.cache.tokens();
        switch (random() % 11) {
        case 0:
        case 1:
        case 2: {
            const std::size_t count = random() % 30;
            if (one.cache.try_append(count))
                one.write(count);
            break;
        }
        case 3:
            one.truncate(tokens - random() % (tokens + 1) / 3);
            break;
        case 4:
        case 5:
            if (all.size() < 6) {
                const std::size_t rows = random() % 3 == 0 ? tokens : random() % (tokens + 1);
                all.push_back(random() % 4 == 0 ? shared(one, rows, sharing::copy_all{}) : shared(one, rows));
                evicted.push_back(evicted[index]);
            }
            break;
        case 6:
            if (all.size() > 1) {
                all.erase(all.begin() + static_cast<std::ptrdiff_t>(index));
                evicted.erase(evicted.begin() + static_cast<std::ptrdiff_t>(index));
            }
            break;
        case 7:
            if (!evicted[index] && tokens > 0) {
                const std::size_t first = random() % tokens;
                overwrite(one, first, random() % (tokens - first));
            }
            break;
        case 8:
        case 9: {
            const std::size_t from = random() % all.size();
            if (from == index || evicted[from] || evicted[index])
                break;
            const std::size_t before = pool.stats().aliases;
            REQUIRE(one.cache.try_merge_prefix_of(all[from]->cache, equal_beginning(one, *all[from])));
            merged += pool.stats().aliases - before;
            break;
        }
        default:
            if (random() % 2 == 0) {
                one.evict(0.7);
                evicted[index] = true;
                one.defragment(defrag::compact{});
            }
        }
        for (auto& each : all)
            each->require_same();
        REQUIRE(pool.verify());
    }
    CHECK((merged > 0 || std::is_same_v<Layer, packed<float, host_backend>>));
}

template <class Layer>
void share_under_failures(fault_length length) {
    using pair = pair_of_sequences<Layer>;
    constexpr bool copies = std::is_same_v<Layer, packed<float, faulty>>;
    const auto nothing = [](pair&) {};
    CHECK(fail_each_call<Layer>(length, nothing, [](pair& here) {
              const status outcome = here.other.cache.try_share_prefix_of(here.donor.cache, 56);
              if (outcome) {
                  here.other.truth = here.donor.truth;
                  for (plain_layer& layer : here.other.truth)
                      layer.take_back(56);
              }
              return outcome;
          }) >= 2 * model.layers);
    if (!copies)
        CHECK(fail_each_call<Layer>(
                  length, [](pair& here) { here.share(56); },
                  [](pair& here) { return here.other.cache.try_make_writable(20, 20); }) > model.layers);
    const auto share_and_truncate = [](pair& here) {
        here.share(56);
        here.other.truncate(40); // the next row lies on a shared page
    };
    CHECK(fail_each_call<Layer>(length, share_and_truncate, [](pair& here) {
              const status outcome = here.other.cache.try_append(70);
              if (outcome)
                  here.other.write(70);
              return outcome;
          }) > model.layers);
    CHECK(fail_each_call<Layer>(length, nothing, [](pair& here) {
              auto made = here.donor.cache.try_fork();
              if (made)
                  here.fork.emplace(*std::move(made));
              return made.status();
          }) > model.layers);
}

template <class Layer>
void all_failures() {
    share_under_failures<Layer>(fault_length::one);
    share_under_failures<Layer>(fault_length::with_undo);
}

} // namespace

TEST_CASE("a common beginning is in memory once, and who writes gets pages of his own") {
    SECTION("per layer") { shares_and_diverges<per_layer<float, host_backend>>(); }
    SECTION("per head") { shares_and_diverges<per_head<float, host_backend>>(); }
    SECTION("packed: copied") { shares_and_diverges<packed<float, host_backend>>(); }
}

TEST_CASE("sequences that come from each other hold what they should: per layer") {
    family<per_layer<float, host_backend>>(250);
}
TEST_CASE("sequences that come from each other hold what they should: per head") {
    family<per_head<float, host_backend>>(250);
}
TEST_CASE("sequences that come from each other hold what they should: packed") {
    family<packed<float, host_backend>>(250);
}

TEST_CASE("sharing that fails at any call has changed neither sequence: per layer") {
    all_failures<per_layer<float, faulty>>();
}
TEST_CASE("sharing that fails at any call has changed neither sequence: per head") {
    all_failures<per_head<float, faulty>>();
}
TEST_CASE("sharing that fails at any call has changed neither sequence: packed") {
    all_failures<packed<float, faulty>>();
}

TEST_CASE("sequences that cannot share are refused") {
    using layer_type = per_layer<float, host_backend>;
    host_backend memory;
    layer_pool<host_backend> pool{memory};
    layer_pool<host_backend> other_pool{memory};
    sequence<layer_type> donor{pool, model};
    donor.append(10);
    sequence<layer_type> other{pool, model};
    CHECK(other.cache.try_share_prefix_of(donor.cache, 11).code() == errc::invalid_argument);
    CHECK(other.cache.try_share_prefix_of(other.cache, 0).code() == errc::invalid_argument);
    sequence<layer_type> elsewhere{other_pool, model};
    CHECK(elsewhere.cache.try_share_prefix_of(donor.cache, 5).code() == errc::invalid_argument);
    auto shape = model;
    shape.layers = 1;
    sequence<layer_type> smaller{pool, shape};
    CHECK(smaller.cache.try_share_prefix_of(donor.cache, 5).code() == errc::invalid_argument);
    REQUIRE(other.cache.try_share_prefix_of(donor.cache, 0));
    CHECK(other.cache.tokens() == 0);
    REQUIRE(other.cache.try_append(1));
    CHECK(other.cache.try_share_prefix_of(donor.cache, 5).code() == errc::invalid_argument);
    CHECK(donor.cache.try_make_writable(0, 11).code() == errc::invalid_argument);
    CHECK(donor.cache.try_make_writable(11, 0).code() == errc::invalid_argument);
    CHECK(donor.cache.try_make_writable(10, 0));
    auto moved = std::move(other.cache);
    CHECK(other.cache.try_fork().code() == errc::invalid_argument); // NOLINT: moved from
}

TEST_CASE("a cache that kept shared pages takes the copied rows of another in pages that it may write") {
    using layer_type = per_layer<float, host_backend>;
    host_backend memory;
    layer_pool<host_backend> pool{memory, {.chunk_size = 4_KiB}};
    sequence<layer_type> donor{pool, model, {.tokens_a_growth = 0}};
    donor.append(100);
    auto again = shared(donor, 100);
    again->truncate(0);                                         // its pages stay, and are read-only
    REQUIRE(again->cache.try_share_prefix_of(donor.cache, 10)); // less than a page: copied
    again->truth = donor.truth;
    again->truncate(10);
    again->require_same();
    again->append(30);
    again->require_same();
    donor.require_same();
}
