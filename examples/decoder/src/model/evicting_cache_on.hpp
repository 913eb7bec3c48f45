// SPDX-License-Identifier: Apache-2.0
//
// The evicting cache over any layout. Only its factory includes it.
#pragma once

#include "model/evicting_cache.hpp"
#include "model/evidence_maker.hpp"
#include "model/host_rows.hpp"

#include <vtensor/kv/layer_cache.hpp>
#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/memory/measure_costs.hpp>

#include <algorithm>
#include <chrono>
#include <new>
#include <utility>

namespace decoder {

template <vtensor::kv::layer_cache Layer>
class evicting_cache_on final : public kv_cache {
    using T = typename Layer::value_type;
    using backend_type = typename Layer::backend_type;

  public:
    evicting_cache_on(backend_type& backend, const kv_shape& shape, const kv_options& options,
                      eviction_options&& eviction)
        : shape_{shape},
          pool_{backend, {.chunk_size = options.page, .limit = options.limit}},
          method_{std::move(eviction.method)},
          defrag_{eviction.defrag},
          counted_{std::move(eviction.counted)},
          evidence_{{shape.layers, eviction.query_heads, shape.kv_heads, shape.head_dim},
                    method_->needs(),
                    method_->recurrence_threshold,
                    std::move(eviction.output_weights)},
          heads_(shape.kv_heads),
          head_rows_(shape.layers * shape.kv_heads),
          shown_(shape.layers),
          plans_(shape.kv_heads) {
        if (eviction.defrag == defrag_kind::hybrid) {
            if (const auto costs = vtensor::try_measure_costs(pool_); costs)
                defrag_.measured = *costs; // where they are not known it copies
            static_cast<void>(pool_.trim(0));
        }
        layers_.reserve(shape.layers);
        for (std::size_t i = 0; i < shape.layers; ++i)
            layers_.push_back(
                Layer::try_create(pool_, {shape.kv_heads, shape.head_dim, shape.head_dim, shape.max_rows})
                    .value());
    }

    [[nodiscard]] std::size_t rows() const noexcept override { return tokens_; }

    [[nodiscard]] vtensor::status try_grow(std::size_t tokens) noexcept override {
        const std::size_t count = tokens - tokens_;
        free_before_ = pool_.stats().free / pool_.chunk_size();
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            const vtensor::status outcome = layers_[i].try_append(count);
            if (outcome)
                continue;
            while (i-- > 0)
                layers_[i].remove_last(count);
            static_cast<void>(pool_.trim(free_before_));
            return outcome;
        }
        grown_ = count;
        tokens_ = tokens;
        return {};
    }
    void undo_growth() noexcept override {
        remove_last(std::exchange(grown_, 0));
        static_cast<void>(pool_.trim(free_before_));
    }
    /// Only what came since the last eviction can be forgotten.
    void truncate(std::size_t rows) noexcept override {
        if (rows < tokens_)
            remove_last(tokens_ - rows);
    }

    [[nodiscard]] vtensor::status try_store(std::size_t layer, std::size_t first, std::span<const float> keys,
                                            std::span<const float> values) noexcept override {
        const std::size_t count = keys.size() / (shape_.kv_heads * shape_.head_dim);
        for (std::size_t head = 0; head < shape_.kv_heads; ++head) {
            const auto key_rows = layers_[layer].keys(head);
            const auto value_rows = layers_[layer].values(head);
            const std::size_t behind = layers_[layer].rows(head) - (tokens_ - first);
            for (std::size_t i = 0; i < count; ++i) {
                const std::size_t at = (i * shape_.kv_heads + head) * shape_.head_dim;
                store(keys.subspan(at, shape_.head_dim), key_rows[behind + i].data);
                store(values.subspan(at, shape_.head_dim), value_rows[behind + i].data);
            }
        }
        return {};
    }
    [[nodiscard]] vtensor::result<kv_heads> try_read(std::size_t layer) noexcept override {
        if (const vtensor::status outcome = layers_[layer].describe(heads_); !outcome)
            return outcome;
        return kv_heads{std::span<const vtensor::attention::kv_head<T>>{heads_}};
    }

    [[nodiscard]] vtensor::result<vtensor::tensor_view<float, 3>>
    try_watch(std::size_t layer, std::size_t count) noexcept override {
        try {
            return evidence_.watch(count, longest(layer));
        } catch (const std::bad_alloc&) {
            return no_memory();
        }
    }
    /// Sums of a step that fails later keep what its first layers added.
    [[nodiscard]] vtensor::status try_note(std::size_t layer, thread_pool&) noexcept override {
        try {
            return evidence_.note(layer, describe_rows(layer));
        } catch (const std::bad_alloc&) {
            return no_memory();
        }
    }
    [[nodiscard]] std::size_t observed_queries() const noexcept override { return evidence_.window(); }

    /// A failed call may be repeated, and is carried on by the next one otherwise. What it chose before it
    /// failed stays chosen: the rows that die are not seen any more, their memory may still be there.
    [[nodiscard]] vtensor::status try_evict(bool ended_prompt, thread_pool& threads) noexcept override {
        const bool stepped = std::exchange(grown_, 0) != 0;
        steps_ += stepped && !ended_prompt ? 1 : 0;
        std::size_t rows = 0;
        for (const Layer& layer : layers_)
            for (std::size_t head = 0; head < shape_.kv_heads; ++head)
                rows = std::max(rows, layer.live_rows(head));
        const bool due = method_->due({.tokens = tokens_,
                                       .steps = steps_,
                                       .rows = rows,
                                       .evictions = done_.evictions,
                                       .prefill_ended = ended_prompt});
        try {
            // Rows that moved since the last step are not where its attention saw them.
            if (due && (stepped || !unfinished_)) {
                if (const vtensor::status outcome = choose(threads); !outcome)
                    return outcome;
            }
            return unfinished_ ? bring_together() : vtensor::status{};
        } catch (const std::bad_alloc&) {
            return no_memory();
        }
    }

    [[nodiscard]] kv_figures figures() noexcept override {
        kv_figures sum;
        for (const Layer& layer : layers_) {
            const auto figures = layer.figures();
            sum.reserved += figures.reserved;
            sum.mapped += figures.mapped;
            sum.used += figures.used;
        }
        sum.row = vtensor::bytes{2 * shape_.layers * shape_.kv_heads * shape_.head_dim * sizeof(T)};
        sum.peak = pool_.stats().created_high_watermark;
        sum.page = pool_.chunk_size();
        sum.rows = tokens_;
        sum.evicted = done_;
        for (std::size_t layer = 0; layer < layers_.size(); ++layer)
            sum.evicted->kept.push_back(kept_of(layers_[layer]));
        return sum;
    }

    [[nodiscard]] bool verify() const noexcept override {
        return pool_.verify() && std::all_of(layers_.begin(), layers_.end(), [&](const Layer& layer) {
                   return layer.verify() && layer.next_position() == tokens_;
               });
    }

  private:
    using clock = std::chrono::steady_clock;

    static vtensor::error no_memory() noexcept {
        return {vtensor::errc::out_of_memory, vtensor::verb::choose, 0, vtensor::bytes{0}};
    }
    static double seconds_since(clock::time_point start) {
        return std::chrono::duration<double>(clock::now() - start).count();
    }
    [[nodiscard]] std::size_t longest(std::size_t layer) const noexcept {
        std::size_t most = 0;
        for (std::size_t head = 0; head < shape_.kv_heads; ++head)
            most = std::max(most, layers_[layer].rows(head));
        return most;
    }
    [[nodiscard]] eviction_figures::memory memory_now() {
        eviction_figures::memory now;
        for (const Layer& layer : layers_)
            now.mapped += layer.figures().mapped;
        if (counted_)
            now.physical = counted_();
        return now;
    }
    eviction_figures::layer_rows kept_of(const Layer& layer) const {
        std::vector<std::size_t> live;
        for (std::size_t head = 0; head < shape_.kv_heads; ++head)
            live.push_back(layer.live_rows(head));
        std::sort(live.begin(), live.end());
        return {live.front(), live[live.size() / 2], live.back()};
    }
    std::span<const vtensor::eviction::head_rows> describe_rows(std::size_t layer) {
        const auto heads = std::span{head_rows_}.subspan(layer * shape_.kv_heads, shape_.kv_heads);
        for (std::size_t head = 0; head < shape_.kv_heads; ++head) {
            const auto positions = layers_[layer].positions(head);
            heads[head] = {layers_[layer].rows(head), positions.empty() ? nullptr : positions.data()};
        }
        return heads;
    }
    void remove_last(std::size_t count) noexcept {
        for (Layer& layer : layers_)
            layer.remove_last(count);
        tokens_ -= count;
    }

    /// All layers lose the rows that the method does not keep, or none does.
    vtensor::status choose(thread_pool& threads) {
        if (done_.evictions == 0)
            done_.before = memory_now();
        const auto start = clock::now();
        for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
            const auto read = try_read(layer);
            if (!read)
                return read.status();
            const auto shown = evidence_.show(layer, *read, describe_rows(layer), tokens_, threads);
            if (!shown)
                return shown.status();
            shown_[layer] = *shown;
        }
        if (const vtensor::status outcome = method_->choose(shown_, room_, kept_); !outcome)
            return outcome;
        for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
            if (const vtensor::status outcome = layers_[layer].try_prepare_eviction(kept_, layer); !outcome)
                return outcome;
        }
        for (std::size_t layer = 0; layer < layers_.size(); ++layer)
            static_cast<void>(layers_[layer].try_evict(kept_, layer)); // was prepared
        unfinished_ = true;
        ++done_.evictions;
        done_.choosing_seconds += seconds_since(start);
        return {};
    }
    /// Head by head: where one cannot be moved, those before it were.
    vtensor::status bring_together() {
        const auto start = clock::now();
        for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
            const vtensor::status outcome = layers_[layer].try_defragment(defrag_, plans_);
            for (std::size_t head = 0; head < shape_.kv_heads; ++head)
                evidence_.follow(layer, head, plans_[head]);
            if (!outcome)
                return outcome;
        }
        unfinished_ = false;
        static_cast<void>(pool_.trim(0)); // what is not taken back now is taken back the next time
        done_.moving_seconds += seconds_since(start);
        done_.after = memory_now();
        return {};
    }

    kv_shape shape_;
    vtensor::chunk_pool<backend_type> pool_;
    std::vector<Layer> layers_;
    std::unique_ptr<eviction_method> method_;
    chosen_defrag defrag_;
    std::function<std::optional<vtensor::bytes>()> counted_;
    evidence_maker evidence_;
    std::vector<vtensor::attention::kv_head<T>> heads_;   // of the layer read last
    std::vector<vtensor::eviction::head_rows> head_rows_; // of all layers
    std::vector<vtensor::eviction::layer_evidence> shown_;
    std::vector<vtensor::defrag::plan> plans_;
    vtensor::eviction::workspace room_;
    vtensor::eviction::kept_rows kept_;
    eviction_figures done_;
    std::size_t tokens_ = 0;
    std::size_t steps_ = 0;
    std::size_t grown_ = 0;   // by the last try_grow, until try_evict
    bool unfinished_ = false; // rows died that were not brought together
    std::size_t free_before_ = 0;
};

} // namespace decoder
