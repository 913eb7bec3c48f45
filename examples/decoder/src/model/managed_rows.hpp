// SPDX-License-Identifier: Apache-2.0
//
// The rows of one sequence of a manager, as the model sees a KV cache. Memory is the manager's affair: it has
// given the sequence rows for all its tokens, and growing here only says how many of them are computed.
#pragma once

#include "model/host_rows.hpp"
#include "model/kv_cache.hpp"

#include <vtensor/core/concepts.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace decoder {

/// `Cache` is a `vtensor::kv::kv_cache` whose heads lie side by side, on memory that the processor reaches.
template <class Cache>
class managed_rows final : public kv_cache {
    using value_type = typename Cache::value_type;

  public:
    /// From now on those of this sequence, the first `computed` of which are written. It must outlive what is
    /// done with them.
    void attach(Cache& cache, std::size_t computed) {
        heads_.resize(cache.shape().layer.kv_heads);
        cache_ = &cache;
        rows_ = before_ = computed;
    }

    [[nodiscard]] std::size_t rows() const noexcept override { return rows_; }

    /// `limit_exceeded` beyond the tokens that the manager knows of.
    [[nodiscard]] vtensor::status try_grow(std::size_t rows) noexcept override {
        if (rows > cache_->tokens())
            return vtensor::error{vtensor::errc::limit_exceeded, vtensor::verb::grow, 0, vtensor::bytes{0}};
        before_ = rows_;
        rows_ = rows;
        return {};
    }
    void undo_growth() noexcept override { rows_ = before_; }
    void truncate(std::size_t rows) noexcept override { rows_ = std::min(rows_, rows); }

    [[nodiscard]] vtensor::status try_store(std::size_t layer, std::size_t first, std::span<const float> keys,
                                            std::span<const float> values) noexcept override {
        store(keys, cache_->keys(layer, 0)[first].data); // one row of all heads behind the other
        store(values, cache_->values(layer, 0)[first].data);
        return {};
    }
    [[nodiscard]] vtensor::result<kv_heads> try_read(std::size_t layer) noexcept override {
        for (std::size_t head = 0; head < heads_.size(); ++head) {
            const auto keys = cache_->keys(layer, head);
            const auto values = cache_->values(layer, head);
            heads_[head] = {.keys = keys.data,
                            .values = values.data,
                            .key_stride = keys.strides[0],
                            .value_stride = values.strides[0],
                            .rows = rows_};
        }
        return kv_heads{std::span<const vtensor::attention::kv_head<value_type>>{heads_}};
    }

    /// Of this sequence alone, but for the peak, which is of all.
    [[nodiscard]] kv_figures figures() noexcept override {
        const auto& shape = cache_->shape();
        const auto now = cache_->figures();
        kv_figures of;
        of.reserved = now.reserved;
        of.mapped = now.mapped;
        of.row = vtensor::bytes{shape.layers * shape.layer.kv_heads *
                                (shape.layer.key_width + shape.layer.value_width) * sizeof(value_type)};
        of.rows = rows_;
        of.used = of.row * rows_;
        of.peak = cache_->pool().stats().created_high_watermark;
        of.page = cache_->pool().chunk_size();
        return of;
    }
    [[nodiscard]] bool verify() const noexcept override { return cache_->verify(); }

  private:
    Cache* cache_ = nullptr;
    std::size_t rows_ = 0;
    std::size_t before_ = 0;                                     // the last growth
    std::vector<vtensor::attention::kv_head<value_type>> heads_; // of the layer read last
};

} // namespace decoder
