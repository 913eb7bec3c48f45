// SPDX-License-Identifier: Apache-2.0
//
// A KV cache whose heads forget rows one by one: plain memory a head, so that what is evicted is really gone
// and every head ends with a length of its own. Keys are stored rotated to their true positions.
#pragma once

#include <vtensor/attention/problem.hpp>
#include <vtensor/core/rows.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace vtensor::bench {

/// Keys and values of one KV head, rows of `width` floats, with the position of each.
struct ragged_head {
    std::vector<float> keys;
    std::vector<float> values;
    std::vector<position_type> positions;

    /// Copies the rows at `slots` of another head, in that order.
    void take(const ragged_head& from, std::span<const slot_type> slots, std::size_t width) {
        const auto copy = [&](const std::vector<float>& source, std::vector<float>& target) {
            target.resize(slots.size() * width);
            for (std::size_t row = 0; row < slots.size(); ++row)
                std::copy_n(source.data() + slots[row] * width, width, target.data() + row * width);
        };
        copy(from.keys, keys);
        copy(from.values, values);
        positions.resize(slots.size());
        std::transform(slots.begin(), slots.end(), positions.begin(),
                       [&](slot_type slot) { return from.positions[slot]; });
    }
};

/// Heads of all layers.
class ragged_cache {
  public:
    ragged_cache(std::size_t layers, std::size_t heads, std::size_t width)
        : heads_{heads}, width_{width}, rows_(layers * heads) {}

    [[nodiscard]] std::size_t layers() const noexcept { return rows_.size() / heads_; }
    [[nodiscard]] std::size_t width() const noexcept { return width_; }
    [[nodiscard]] std::span<ragged_head> layer(std::size_t index) noexcept {
        return std::span{rows_}.subspan(index * heads_, heads_);
    }
    [[nodiscard]] std::span<const ragged_head> layer(std::size_t index) const noexcept {
        return std::span{rows_}.subspan(index * heads_, heads_);
    }

    /// The rows of `from` that a policy keeps, and no others.
    void take(const ragged_cache& from, const eviction::kept_rows& kept) {
        for (std::size_t index = 0; index < rows_.size(); ++index)
            rows_[index].take(from.rows_[index], kept.of(index / heads_, index % heads_), width_);
    }

    /// The descriptors of one layer, for attention. Valid until rows are added or taken.
    [[nodiscard]] std::vector<attention::kv_head<float>> described(std::size_t index) const {
        std::vector<attention::kv_head<float>> heads;
        for (const ragged_head& head : layer(index))
            heads.push_back({.keys = head.keys.data(),
                             .values = head.values.data(),
                             .key_stride = static_cast<std::ptrdiff_t>(width_),
                             .value_stride = static_cast<std::ptrdiff_t>(width_),
                             .rows = head.positions.size(),
                             .positions = head.positions.data()});
        return heads;
    }

  private:
    std::size_t heads_;
    std::size_t width_;
    std::vector<ragged_head> rows_;
};

} // namespace vtensor::bench
