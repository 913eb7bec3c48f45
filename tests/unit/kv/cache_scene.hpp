// SPDX-License-Identifier: Apache-2.0
//
// A sequence's cache beside plain copies of its layers, and everything outside the cache that a failed
// operation must leave as it was.
#pragma once

#include "layouts.hpp"

#include "support/proc_maps.hpp"

#include <vtensor/kv/kv_cache.hpp>

#include <cstddef>
#include <tuple>
#include <vector>

namespace vtensor::testing {

/// One layer of a cache, for `plain_layer`.
template <class Cache>
struct one_layer {
    Cache& cache; // NOLINT: lives as long as the expression
    std::size_t index;

    auto keys(std::size_t head) const { return cache.keys(index, head); }
    auto values(std::size_t head) const { return cache.values(index, head); }
    std::size_t rows(std::size_t head) const { return cache.layer(index).rows(head); }
    std::size_t live_rows(std::size_t head) const { return cache.layer(index).live_rows(head); }
    auto positions(std::size_t head) const { return cache.layer(index).positions(head); }
    position_type next_position() const { return cache.layer(index).next_position(); }
    bool verify() const { return cache.verify(); }
};

/// A cache and what it must hold.
template <class Layer>
class sequence {
  public:
    using cache_type = kv::kv_cache<Layer>;
    using pool_type = typename Layer::pool_type;

    sequence(pool_type& pool, const kv::model_shape& shape,
             const typename cache_type::options_type& options = {})
        : cache{cache_type::try_create(pool, shape, options).value()},
          truth(shape.layers, plain_layer{shape.layer}) {}

    void append(std::size_t count) {
        REQUIRE(cache.try_append(count));
        write(count);
    }
    /// The rows of the newest `count` tokens, in the cache and in the copies.
    void write(std::size_t count) {
        for (std::size_t layer = 0; layer < truth.size(); ++layer) {
            one_layer<cache_type> rows{cache, layer};
            truth[layer].append(rows, count);
        }
    }
    void truncate(std::size_t tokens) {
        cache.truncate(tokens);
        for (plain_layer& layer : truth)
            layer.take_back(static_cast<position_type>(tokens));
    }
    /// A random share of the rows stays in every head of every layer.
    void evict(double share) {
        eviction::kept_rows kept;
        for (std::size_t layer = 0; layer < truth.size(); ++layer) {
            truth[layer].evict(one_layer<cache_type>{cache, layer}, share, kept);
            REQUIRE(cache.try_evict(layer, kept, 0));
        }
    }
    template <class Policy>
    void defragment(const Policy& policy) {
        std::vector<defrag::plan> plans(cache.shape().layer.kv_heads);
        for (std::size_t layer = 0; layer < truth.size(); ++layer)
            REQUIRE(cache.try_defragment(layer, policy, plans));
    }
    void require_same() {
        for (std::size_t layer = 0; layer < truth.size(); ++layer) {
            one_layer<cache_type> rows{cache, layer};
            truth[layer].require_same(rows);
        }
    }

    cache_type cache;
    std::vector<plain_layer> truth;
};

/// What the kernel, the pool and the cache say; equal before and after an operation that failed.
template <class Cache>
struct state_of_memory {
    explicit state_of_memory(Cache& cache)
        : tokens{cache.tokens()}, ready{cache.ready()}, mapped{cache.figures().mapped} {
        const auto stats = cache.pool().stats();
        created = stats.created;
        in_use = stats.in_use;
        for (const map_line& line : read_maps())
            if (line.memory_file)
                lines.emplace_back(line.first, line.last, line.permissions[0], line.permissions[1]);
    }
    friend bool operator==(const state_of_memory&, const state_of_memory&) = default;

    std::size_t tokens;
    std::size_t ready;
    bytes mapped;
    bytes created{};
    bytes in_use{};
    std::vector<std::tuple<std::uintptr_t, std::uintptr_t, char, char>> lines{};
};

} // namespace vtensor::testing
