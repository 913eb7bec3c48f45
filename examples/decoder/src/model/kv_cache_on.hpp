// SPDX-License-Identifier: Apache-2.0
//
// The KV cache over any backend: 2 × layers virtual tensors on one pool. Its one idea is that a step takes
// memory for all tensors before it changes any, so that a failure in the last layer leaves the first one as
// it was. Only factories and tests include it.
#pragma once

#include "model/device_rows.hpp"
#include "model/host_rows.hpp"
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

/// In place, or by copies where the backend has streams.
template <class T, vtensor::backend Backend>
struct rows_on {
    using type = host_rows<T, Backend>;
};
template <class T, vtensor::stream_ordered_backend Backend>
struct rows_on<T, Backend> {
    using type = device_rows<T, Backend>;
};

template <class T, vtensor::backend Backend, vtensor::growth_policy Growth>
class kv_cache_on final : public kv_cache {
    static constexpr bool looks_ahead = vtensor::look_ahead_policy<Growth>;

  public:
    kv_cache_on(Backend& backend, const kv_shape& shape, const kv_options& options)
        : pool_{backend,
                {.chunk_size = options.page,
                 .limit = options.limit,
                 .wait_for_retiring = rows_type::wait_for_retiring}},
          heads_(shape.kv_heads),
          held_(2 * shape.layers),
          access_{backend, shape} {
        const vtensor::row_shape row{shape.kv_heads, shape.head_dim};
        tensors_.reserve(2 * shape.layers);
        for (std::size_t i = 0; i < 2 * shape.layers; ++i) {
            if constexpr (looks_ahead)
                tensors_.emplace_back(pool_, mapper_, row, shape.max_rows);
            else
                tensors_.emplace_back(pool_, row, shape.max_rows);
        }
    }

    ~kv_cache_on() override {
        for (tensor& each : tensors_)
            access_.retire(each);
    }

    [[nodiscard]] std::size_t rows() const noexcept override { return rows_; }

    [[nodiscard]] vtensor::status try_grow(std::size_t rows) noexcept override {
        if (const vtensor::status outcome = access_.try_make_room(rows); !outcome)
            return outcome;
        access_.reclaim(pool_);
        remember();
        vtensor::status outcome = grow_all(rows);
        if (vtensor::is_shortage(outcome.code()))
            outcome = grow_all_tightly(rows);
        if (outcome)
            rows_ = rows;
        else
            restore();
        return outcome;
    }

    void undo_growth() noexcept override {
        rows_ = before_.rows;
        restore();
    }

    void truncate(std::size_t rows) noexcept override {
        rows_ = std::min(rows_, rows);
        for (tensor& each : tensors_)
            if (each.rows() > rows)
                static_cast<void>(access_.try_resize(each, rows));
    }

    [[nodiscard]] vtensor::status try_store(std::size_t layer, std::size_t first, std::span<const float> keys,
                                            std::span<const float> values) noexcept override {
        return access_.try_store(memory_of(layer), first, keys, values);
    }
    [[nodiscard]] vtensor::result<kv_heads> try_read(std::size_t layer) noexcept override {
        const auto rows = access_.try_read(memory_of(layer));
        if (!rows)
            return rows.status();
        if (const vtensor::status outcome =
                vtensor::attention::describe_heads<T>(heads_, rows->keys, rows->values);
            !outcome)
            return outcome;
        return kv_heads{std::span<const vtensor::attention::kv_head<T>>{heads_}};
    }

    [[nodiscard]] kv_figures figures() noexcept override {
        if constexpr (looks_ahead)
            mapper_.drain();
        access_.reclaim(pool_);
        kv_figures sum;
        for (const tensor& each : tensors_) {
            sum.reserved += each.reserved_bytes();
            sum.mapped += each.mapped_bytes();
            sum.row += each.row_bytes();
        }
        sum.peak = pool_.stats().created_high_watermark;
        sum.page = pool_.chunk_size();
        sum.rows = rows();
        sum.used = sum.row * sum.rows;
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
    using rows_type = typename rows_on<T, Backend>::type;

    struct state {
        std::size_t rows = 0;
        std::size_t free_chunks = 0;
    };

    [[nodiscard]] layer_memory<T> memory_of(std::size_t layer) noexcept {
        return {tensors_[2 * layer].template try_view<3>()->rows(0, rows_),
                tensors_[2 * layer + 1].template try_view<3>()->rows(0, rows_)};
    }

    void remember() noexcept {
        for (std::size_t i = 0; i < tensors_.size(); ++i)
            held_[i] = tensors_[i].mapped_rows();
        before_ = {rows_, pool_.stats().free / pool_.chunk_size()};
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
            if (const vtensor::status outcome = access_.try_trim(each); !outcome)
                return outcome;
        for (tensor& each : tensors_) {
            vtensor::status outcome = each.try_resize(std::max(rows, each.rows()));
            if (outcome)
                outcome = access_.try_trim(each);
            if (!outcome)
                return outcome;
        }
        return {};
    }

    /// Every tensor has the rows and the memory that it had, and the pool gives back what it took since.
    void restore() noexcept {
        for (std::size_t i = 0; i < tensors_.size(); ++i) {
            static_cast<void>(access_.try_resize(tensors_[i], std::max(held_[i], before_.rows)));
            static_cast<void>(access_.try_trim(tensors_[i]));
            static_cast<void>(access_.try_resize(tensors_[i], before_.rows));
        }
        access_.drain(pool_);
        static_cast<void>(pool_.trim(before_.free_chunks));
    }

    vtensor::chunk_pool<Backend, mutex> pool_;
    [[no_unique_address]] mapper mapper_;
    std::size_t rows_ = 0;        // a tensor has more only where the backend would not unmap its end
    std::vector<tensor> tensors_; // K of layer 0, V of layer 0, K of layer 1, …
    std::vector<vtensor::attention::kv_head<T>> heads_; // of the layer read last
    state before_;                                      // the last growth
    std::vector<std::size_t> held_;          // rows that fitted into each tensor's memory before it
    [[no_unique_address]] rows_type access_; // gone before the tensors: it may have to wait for copies
};

} // namespace decoder
