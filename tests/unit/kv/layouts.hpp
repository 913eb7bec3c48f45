// SPDX-License-Identifier: Apache-2.0
//
// The three layouts under one name, and a plain copy of what a layer holds to compare them with.
#pragma once

#include "support/catch.hpp"

#include <vtensor/kv/packed_cache.hpp>
#include <vtensor/kv/per_head_cache.hpp>
#include <vtensor/kv/per_layer_cache.hpp>

#include <algorithm>
#include <cstddef>
#include <random>
#include <vector>

namespace vtensor::testing {

template <class Backend>
using layer_pool = chunk_pool<Backend, no_mutex>;

template <class T, class Backend>
using per_layer = kv::per_layer_cache<T, Backend>;
template <class T, class Backend>
using per_head = kv::per_head_cache<T, Backend>;
template <class T, class Backend>
using packed = kv::packed_cache<T, Backend>;

/// One row as it was written.
struct plain_row {
    position_type position = 0;
    std::vector<float> key;
    std::vector<float> value;
};

/// What a layer must hold: the live rows of every head, oldest first, and its next position.
class plain_layer {
  public:
    explicit plain_layer(const kv::layer_shape& shape) : shape_{shape}, heads(shape.kv_heads) {}

    /// Appends rows with content of their own and writes them to the cache's last rows.
    template <class Cache>
    void append(Cache& cache, std::size_t count) {
        for (std::size_t head = 0; head < heads.size(); ++head) {
            const auto keys = cache.keys(head);
            const auto values = cache.values(head);
            for (std::size_t index = 0; index < count; ++index) {
                plain_row row{next_ + static_cast<position_type>(index), random_row(shape_.key_width),
                              random_row(shape_.value_width)};
                const std::size_t slot = cache.rows(head) - count + index;
                write(row.key, keys, slot);
                write(row.value, values, slot);
                heads[head].push_back(std::move(row));
            }
        }
        next_ += static_cast<position_type>(count);
    }
    void remove_last(std::size_t count) {
        for (auto& rows : heads)
            rows.resize(rows.size() - count);
        next_ -= static_cast<position_type>(count);
    }
    /// Rows at position `first` and later are forgotten.
    void take_back(position_type first) {
        for (auto& rows : heads)
            std::erase_if(rows, [&](const plain_row& row) { return row.position >= first; });
        next_ = first;
    }
    /// A random choice of rows stays in every head, `share` of them; as slots, for `layer` of `kept`.
    template <class Cache>
    void evict(const Cache& cache, double share, eviction::kept_rows& kept) {
        REQUIRE(kept.reset(1, heads.size()));
        for (std::size_t head = 0; head < heads.size(); ++head) {
            std::vector<slot_type> slots;
            std::bernoulli_distribution stays{share};
            for (std::size_t slot = 0; slot < cache.rows(head); ++slot)
                if (position_of(cache, head, slot) != no_position && stays(random))
                    slots.push_back(static_cast<slot_type>(slot));
            REQUIRE(kept.add(slots));
        }
        keep_only(cache, kept);
    }
    /// The rows of `kept` stay.
    template <class Cache>
    void keep_only(const Cache& cache, const eviction::kept_rows& kept) {
        for (std::size_t head = 0; head < heads.size(); ++head) {
            std::vector<position_type> positions;
            for (const slot_type slot : kept.of(0, head))
                positions.push_back(position_of(cache, head, slot));
            std::sort(positions.begin(), positions.end());
            REQUIRE((positions.empty() || positions.back() != no_position));
            std::erase_if(heads[head], [&](const plain_row& row) {
                return !std::binary_search(positions.begin(), positions.end(), row.position);
            });
        }
    }

    /// Every live row is there, once, with its content; nothing else lives; and where `in_order`, the rows
    /// lie in the order of their positions.
    template <class Cache>
    void require_same(Cache& cache, bool in_order = false) const {
        REQUIRE(cache.verify());
        REQUIRE(cache.next_position() == next_);
        for (std::size_t head = 0; head < heads.size(); ++head) {
            REQUIRE(cache.live_rows(head) == heads[head].size());
            std::size_t found = 0;
            position_type last = 0;
            for (std::size_t slot = 0; slot < cache.rows(head); ++slot) {
                const position_type at = position_of(cache, head, slot);
                if (at == no_position)
                    continue;
                const auto row = std::lower_bound(
                    heads[head].begin(), heads[head].end(), at,
                    [](const plain_row& one, position_type position) { return one.position < position; });
                REQUIRE(row != heads[head].end());
                REQUIRE(row->position == at);
                REQUIRE(reads(row->key, cache.keys(head), slot));
                REQUIRE(reads(row->value, cache.values(head), slot));
                REQUIRE((!in_order || found == 0 || at > last));
                last = at;
                ++found;
            }
            REQUIRE(found == heads[head].size()); // positions are unique: each of them once
        }
    }

    template <class Cache>
    static position_type position_of(const Cache& cache, std::size_t head, std::size_t slot) {
        return cache.positions(head).empty() ? static_cast<position_type>(slot) : cache.positions(head)[slot];
    }

  private:
    std::vector<float> random_row(std::size_t width) {
        std::vector<float> row(width);
        std::normal_distribution<float> normal;
        for (float& one : row)
            one = normal(random);
        return row;
    }
    template <class T>
    static void write(const std::vector<float>& row, const tensor_view<T, 2>& rows, std::size_t slot) {
        for (std::size_t column = 0; column < row.size(); ++column)
            rows(slot, column) = from_float<T>(row[column]);
    }
    template <class T>
    static bool reads(const std::vector<float>& row, const tensor_view<T, 2>& rows, std::size_t slot) {
        for (std::size_t column = 0; column < row.size(); ++column)
            if (to_float(rows(slot, column)) != to_float(from_float<T>(row[column])))
                return false;
        return true;
    }

    kv::layer_shape shape_;
    position_type next_ = 0;

  public:
    std::mt19937 random{20261121}; // NOLINT: the same in every run
    std::vector<std::vector<plain_row>> heads;
};

} // namespace vtensor::testing
