// SPDX-License-Identifier: Apache-2.0
//
// The cache of one layer in virtual tensors, from which rows are evicted.
#pragma once

#include "eviction_layer.hpp"

#include <vtensor/attention/host.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/memory/measure_costs.hpp>
#include <vtensor/policy/eviction/by_caller.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace vtensor::bench {

/// The cache in virtual tensors, K and V of every head its own.
class head_tensors {
  public:
    explicit head_tensors(const eviction_layer& layer) : layer_{layer} {
        for (std::size_t index = 0; index < 2 * layer_shape::kv_heads; ++index)
            tensors_.push_back(
                std::make_unique<tensor>(pool_, row_shape{layer_shape::width}, layer.tokens()));
    }

    /// All rows again, as they were.
    void restore() {
        for (auto& one : tensors_)
            one->resize(0);
        for (std::size_t index = 0; index < tensors_.size(); ++index) {
            const auto& from = index % 2 == 0 ? layer_.cache().keys : layer_.cache().values;
            tensors_[index]->resize(layer_.tokens());
            std::memcpy(tensors_[index]->data(), from[index / 2], layer_.tokens() * row_bytes);
        }
    }
    /// What moving costs on this pool.
    [[nodiscard]] defrag::costs measured() { return measure_costs(pool_); }

    /// Cuts every tensor to as many rows as it had after the last eviction, moving nothing.
    void cut() {
        for (std::size_t index = 0; index < tensors_.size(); ++index)
            tensors_[index]->resize(rows_left_[index]);
    }
    /// Copies as many bytes as the last eviction moved from the second half of the tensors to the first.
    void copy_plainly() {
        const std::size_t each = moved_bytes / tensors_.size();
        for (auto& one : tensors_) {
            auto* const data = reinterpret_cast<std::byte*>(one->data());
            std::memcpy(data, data + layer_.tokens() * row_bytes / 2, each);
        }
    }
    template <class Defrag>
    void evict(const eviction::kept_rows& kept, const Defrag& policy) {
        moved_bytes = blocks = 0;
        for (std::size_t index = 0; index < tensors_.size(); ++index) {
            tensors_[index]->evict(kept.of(0, index / 2));
            throw_if_failed(tensors_[index]->try_defragment(policy, plan_));
            moved_bytes += plan_.rows_copied() * row_bytes;
            for (const auto& move : plan_.blocks)
                blocks += move.count;
            rows_left_[index] = tensors_[index]->rows();
        }
    }
    /// One query of every head on what is left.
    void decode() {
        for (std::size_t head = 0; head < layer_shape::kv_heads; ++head) {
            const auto& keys = *tensors_[2 * head];
            heads_[head] = {.keys = keys.data(),
                            .values = tensors_[2 * head + 1]->data(),
                            .key_stride = layer_shape::width,
                            .value_stride = layer_shape::width,
                            .rows = keys.rows(),
                            .positions = keys.positions().empty() ? nullptr : keys.positions().data()};
        }
        const attention::sequence<float16> one{
            .queries =
                make_view(std::as_const(query_).data(), 1, layer_shape::query_heads, layer_shape::width),
            .heads = heads_,
            .output = make_view(output_.data(), 1, layer_shape::query_heads, layer_shape::width),
            .first_position = static_cast<position_type>(layer_.tokens())};
        throw_if_failed(attention::host{}(attention::problem<float16>{.sequences = {&one, 1}},
                                          attention::inline_executor{}));
        keep(output_);
    }
    [[nodiscard]] double mapped_share() const {
        std::size_t mapped = 0;
        for (const auto& one : tensors_)
            mapped += one->mapped_bytes().count();
        return static_cast<double>(mapped) / static_cast<double>(layer_.cache().bytes());
    }

    static constexpr std::size_t row_bytes = layer_shape::width * sizeof(float16);
    std::size_t moved_bytes = 0; ///< by the last eviction
    std::size_t blocks = 0;      ///< remapped by the last eviction

  private:
    using tensor = virtual_tensor<float16, host_backend, growth::exact, eviction::by_caller>;

    const eviction_layer& layer_;
    host_backend backend_;
    tensor::pool_type pool_{backend_, {.chunk_size = 64_KiB}};
    std::vector<std::unique_ptr<tensor>> tensors_;
    std::vector<std::size_t> rows_left_ = std::vector<std::size_t>(2 * layer_shape::kv_heads);
    std::vector<attention::kv_head<float16>> heads_{layer_shape::kv_heads};
    std::vector<float> query_ = std::vector<float>(layer_shape::query_heads * layer_shape::width, 0.01f);
    std::vector<float> output_ = query_;
    defrag::plan plan_;
};

} // namespace vtensor::bench
