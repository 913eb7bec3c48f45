// SPDX-License-Identifier: Apache-2.0
//
// Sequences that have pages in common, and pairs of them whose every figure is compared after a call that
// failed.
#pragma once

#include "cache_scene.hpp"

#include "support/fault_loop.hpp"
#include "support/sanitizers.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/policy/sharing.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

namespace vtensor::testing {

/// 16 rows a page in keys and in values.
inline constexpr kv::model_shape model{
    .layers = any_sanitizer ? 2 : 6,
    .layer = {.kv_heads = 1, .key_width = 64, .value_width = 64, .max_rows = 400}};

/// A sequence with the first tokens of another, in the cache and in the copies.
template <class Layer, class Rule = sharing::map_all>
std::unique_ptr<sequence<Layer>> shared(sequence<Layer>& donor, std::size_t tokens, const Rule& rule = {}) {
    auto made =
        std::make_unique<sequence<Layer>>(donor.cache.pool(), donor.cache.shape(), donor.cache.options());
    REQUIRE(made->cache.try_share_prefix_of(donor.cache, tokens, rule));
    made->truth = donor.truth;
    for (plain_layer& layer : made->truth) {
        layer.take_back(static_cast<position_type>(tokens));
        layer.random.seed(static_cast<unsigned>(tokens + 1)); // what it writes is not what the donor writes
    }
    return made;
}

/// Every row of these slots is written anew, in the cache and in the copies. Nothing was evicted.
template <class Layer>
void overwrite(sequence<Layer>& one, std::size_t first, std::size_t count) {
    REQUIRE(one.cache.try_make_writable(first, count));
    for (std::size_t layer = 0; layer < one.truth.size(); ++layer)
        for (std::size_t head = 0; head < one.truth[layer].heads.size(); ++head)
            for (std::size_t slot = first; slot < first + count; ++slot) {
                auto& row = one.truth[layer].heads[head][slot];
                row.key[0] += 1;
                row.value[0] -= 1;
                one.cache.keys(layer, head)(slot, 0) = row.key[0];
                one.cache.values(layer, head)(slot, 0) = row.value[0];
            }
}

using faulty = adaptors::failing<host_backend>;

/// Two sequences of many layers, whose every figure is compared.
template <class Layer>
struct pair_of_sequences {
    using state = std::pair<state_of_memory<typename sequence<Layer>::cache_type>,
                            state_of_memory<typename sequence<Layer>::cache_type>>;

    host_backend memory{};
    faulty backend{memory};
    layer_pool<faulty> pool{backend, {.chunk_size = 4_KiB}};
    sequence<Layer> donor{pool, model, {.tokens_a_growth = 0}};
    sequence<Layer> other{pool, model, {.tokens_a_growth = 0}};
    std::optional<typename sequence<Layer>::cache_type> fork{};

    pair_of_sequences() { donor.append(60); }
    void share(std::size_t tokens) {
        REQUIRE(other.cache.try_share_prefix_of(donor.cache, tokens));
        other.truth = donor.truth;
        for (plain_layer& layer : other.truth)
            layer.take_back(static_cast<position_type>(tokens));
    }
    state now() {
        using one = state_of_memory<typename sequence<Layer>::cache_type>;
        return {one{donor.cache}, one{other.cache}};
    }
    void require_same() {
        CHECK(pool.verify());
        donor.require_same();
        other.require_same();
    }
};

/// The same scene for every call that is made to fail: `prepare`, then `operation`, which either fails and
/// has changed nothing, or can do without the call. Returns how often it failed.
template <class Layer, class Prepare, class Operation>
std::size_t fail_each_call(fault_length length, Prepare prepare, Operation operation) {
    std::size_t failed = 0;
    for (std::size_t k = 1;; ++k) {
        INFO("backend call " << k << " failed");
        pair_of_sequences<Layer> here;
        prepare(here);
        const auto before = here.now();
        here.backend.fail_calls(k, static_cast<std::size_t>(length), errc::native_failure);
        const status outcome = operation(here);
        const bool met = here.backend.failures() > 0;
        here.backend.disarm();
        if (!met) {
            REQUIRE(outcome);
            return failed;
        }
        if (!outcome) {
            ++failed;
            CHECK(here.now() == before);
            here.require_same();
        }
    }
}

} // namespace vtensor::testing
