// SPDX-License-Identifier: Apache-2.0
//
// The KV cache over any backend: 2 × layers virtual tensors on one pool. Its one idea is that a step takes
// memory for all tensors before it changes any, so that a failure in the last layer leaves the first one as
// it was. Only factories and tests include it.
#pragma once

#include "model/kv_cache.hpp"

#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/memory/mapper.hpp>
#include <vtensor/policy/growth.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <mutex>
#include <type_traits>
#include <vector>

namespace decoder {

template <class T, vtensor::backend Backend, vtensor::growth_policy Growth>
class kv_cache_on final : public kv_cache {
    static constexpr bool looks_ahead = vtensor::look_ahead_policy<Growth>;

  public:
    kv_cache_on(Backend& backend, const kv_shape& shape, const kv_options& options)
        : pool_{backend, vtensor::chunk_pool_options{options.page, options.limit}}, held_(2 * shape.layers) {
        const vtensor::row_shape row{shape.kv_heads, shape.head_dim};
        tensors_.reserve(2 * shape.layers);
        for (std::size_t i = 0; i < 2 * shape.layers; ++i) {
            if constexpr (looks_ahead)
                tensors_.emplace_back(pool_, mapper_, row, shape.max_rows);
            else
                tensors_.emplace_back(pool_, row, shape.max_rows);
        }
    }

    [[nodiscard]] std::size_t rows() const noexcept override { return rows_; }

    [[nodiscard]] vtensor::status try_grow(std::size_t rows) noexcept override {
        const state before = remember();
        vtensor::status outcome = grow_all(rows);
        if (vtensor::is_shortage(outcome.code()))
            outcome = grow_all_tightly(rows);
        if (outcome)
            rows_ = rows;
        else
            restore(before);
        return outcome;
    }

    void truncate(std::size_t rows) noexcept override {
        rows_ = std::min(rows_, rows);
        for (tensor& each : tensors_)
            if (each.rows() > rows)
                static_cast<void>(each.try_resize(rows));
    }

    [[nodiscard]] kv_view keys(std::size_t layer) noexcept override { return view_of(tensors_[2 * layer]); }
    [[nodiscard]] kv_view values(std::size_t layer) noexcept override {
        return view_of(tensors_[2 * layer + 1]);
    }

    [[nodiscard]] kv_figures figures() noexcept override {
        if constexpr (looks_ahead)
            mapper_.drain();
        kv_figures sum;
        for (const tensor& each : tensors_) {
            sum.reserved += each.reserved_bytes();
            sum.mapped += each.mapped_bytes();
            sum.row += each.row_bytes();
        }
        sum.peak = pool_.stats().created_high_watermark;
        sum.page = pool_.chunk_size();
        sum.rows = rows();
        return sum;
    }

    [[nodiscard]] bool verify() const noexcept override {
        return pool_.verify() && std::all_of(tensors_.begin(), tensors_.end(), [&](const tensor& each) {
                   return each.rows() >= rows_ && each.verify();
               });
    }

  private:
    struct no_mapper {};
    using mutex = std::conditional_t<looks_ahead, std::mutex, vtensor::no_mutex>;
    using mapper = std::conditional_t<looks_ahead, vtensor::mapper, no_mapper>;
    using tensor = vtensor::virtual_tensor<T, Backend, Growth>;

    struct state {
        std::size_t rows;
        std::size_t free_chunks;
    };

    [[nodiscard]] kv_view view_of(tensor& from) const noexcept {
        return from.template try_view<3>()->rows(0, rows_);
    }

    state remember() noexcept {
        for (std::size_t i = 0; i < tensors_.size(); ++i)
            held_[i] = tensors_[i].mapped_rows();
        return {rows_, pool_.stats().free / pool_.chunk_size()};
    }

    /// Memory for all, then rows for all: the second half only counts.
    vtensor::status grow_all(std::size_t rows) noexcept {
        for (tensor& each : tensors_)
            if (const vtensor::status outcome = each.try_prepare(rows); !outcome)
                return outcome;
        for (tensor& each : tensors_)
            if (const vtensor::status outcome = each.try_resize(std::max(rows, each.rows())); !outcome)
                return outcome;
        return {};
    }

    /// The same, but no tensor keeps what its policy would like to have beyond its rows: another needs it.
    vtensor::status grow_all_tightly(std::size_t rows) noexcept {
        for (tensor& each : tensors_)
            if (const vtensor::status outcome = each.try_trim(); !outcome)
                return outcome;
        for (tensor& each : tensors_) {
            vtensor::status outcome = each.try_resize(std::max(rows, each.rows()));
            if (outcome)
                outcome = each.try_trim();
            if (!outcome)
                return outcome;
        }
        return {};
    }

    /// Every tensor has the rows and the memory that it had, and the pool gives back what it took since.
    void restore(const state& before) noexcept {
        for (std::size_t i = 0; i < tensors_.size(); ++i) {
            static_cast<void>(tensors_[i].try_resize(std::max(held_[i], before.rows)));
            static_cast<void>(tensors_[i].try_trim());
            static_cast<void>(tensors_[i].try_resize(before.rows));
        }
        static_cast<void>(pool_.trim(before.free_chunks));
    }

    vtensor::chunk_pool<Backend, mutex> pool_;
    [[no_unique_address]] mapper mapper_;
    std::size_t rows_ = 0;          // a tensor has more only where the backend would not unmap its end
    std::vector<tensor> tensors_;   // K of layer 0, V of layer 0, K of layer 1, …
    std::vector<std::size_t> held_; // rows that fitted into each tensor's memory before a step
};

} // namespace decoder
