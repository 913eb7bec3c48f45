// SPDX-License-Identifier: Apache-2.0
//
// The manager's sequences over any backend whose memory the processor reaches. Only the factory and tests
// include it.
#pragma once

#include "model/managed_rows.hpp"
#include "model/managed_sequences.hpp"

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/exception.hpp>
#include <vtensor/kv/manager.hpp>
#include <vtensor/kv/per_layer_cache.hpp>
#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/memory/mapper.hpp>
#include <vtensor/policy/growth.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

namespace decoder {

template <class T, vtensor::backend Backend>
class managed_sequences_on final : public managed_sequences {
    static_assert(std::is_same_v<vtensor::kv::token_id, int>);
    using layer_type = vtensor::kv::per_layer_cache<T, Backend, vtensor::growth::exact, std::mutex>;
    using cache_type = vtensor::kv::kv_cache<layer_type>;
    using manager_type = vtensor::kv::manager<cache_type>;

  public:
    managed_sequences_on(Backend& backend, const kv_shape& shape, const kv_options& options)
        : backend_{backend}, pool_{backend, {.chunk_size = options.page, .limit = options.limit}} {
        typename manager_type::options_type how;
        if (options.growth == kv_growth::look_ahead)
            how.thread = &mapper_.emplace();
        auto made = manager_type::try_create(pool_,
                                             {.layers = shape.layers,
                                              .layer = {.kv_heads = shape.kv_heads,
                                                        .key_width = shape.head_dim,
                                                        .value_width = shape.head_dim,
                                                        .max_rows = shape.max_rows}},
                                             how);
        vtensor::throw_if_failed(made.status());
        manager_ = *std::move(made);
    }

    [[nodiscard]] vtensor::result<vtensor::kv::placed_sequence>
    try_create(std::span<const int> tokens, vtensor::kv::salt_id salt) noexcept override {
        return manager_->try_create(tokens, {.salt = salt});
    }
    [[nodiscard]] vtensor::status try_extend(std::span<const vtensor::kv::extension> step) noexcept override {
        return manager_->try_extend(step);
    }
    [[nodiscard]] vtensor::status try_record(sequence_id id) noexcept override {
        return manager_->try_record(id);
    }
    [[nodiscard]] vtensor::status try_release(sequence_id id) noexcept override {
        return manager_->try_release(id);
    }
    [[nodiscard]] vtensor::result<sequence_id> try_fork(sequence_id id) noexcept override {
        return manager_->try_fork(id);
    }
    [[nodiscard]] vtensor::status try_preempt(sequence_id id) noexcept override {
        return manager_->try_preempt(id);
    }
    [[nodiscard]] vtensor::result<vtensor::kv::placed_sequence> try_resume(sequence_id id) noexcept override {
        return manager_->try_resume(id);
    }

    [[nodiscard]] std::span<const int> tokens(sequence_id id) const noexcept override {
        return manager_->tokens(id);
    }
    [[nodiscard]] std::span<const sequence_id> preempted() const noexcept override {
        return manager_->preempted();
    }
    [[nodiscard]] kv_cache& rows(sequence_id id, std::size_t computed) override {
        rows_.attach(*manager_->cache(id), computed);
        return rows_;
    }
    [[nodiscard]] vtensor::kv::manager_stats stats() const noexcept override { return manager_->stats(); }
    [[nodiscard]] std::optional<vtensor::bytes> counted_by_kernel() const override {
        if constexpr (requires { backend_.kernel_physical_bytes(); })
            return backend_.kernel_physical_bytes();
        else
            return std::nullopt;
    }
    [[nodiscard]] bool verify() noexcept override { return manager_->verify(); }

  private:
    Backend& backend_;
    std::optional<vtensor::mapper> mapper_;
    typename layer_type::pool_type pool_;
    std::unique_ptr<manager_type> manager_; // gone before the pool and the thread
    managed_rows<cache_type> rows_;
};

} // namespace decoder
