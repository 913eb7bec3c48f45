// SPDX-License-Identifier: Apache-2.0
#include "model/managed_sequences.hpp"

#include "model/managed_rows.hpp"

#include <vtensor/core/exception.hpp>
#include <vtensor/kv/manager.hpp>
#include <vtensor/kv/per_layer_cache.hpp>
#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/memory/mapper.hpp>

#include <mutex>
#include <type_traits>
#include <utility>

namespace decoder {

namespace {

namespace kv = vtensor::kv;

static_assert(std::is_same_v<kv::token_id, int>);

template <class T>
class managed_sequences_of final : public managed_sequences {
    using layer_type = kv::per_layer_cache<T, vtensor::host_backend, vtensor::growth::exact, std::mutex>;
    using cache_type = kv::kv_cache<layer_type>;
    using manager_type = kv::manager<cache_type>;

  public:
    managed_sequences_of(vtensor::host_backend& backend, const kv_shape& shape, const kv_options& options)
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

    [[nodiscard]] vtensor::result<kv::placed_sequence> try_create(std::span<const int> tokens,
                                                                  kv::salt_id salt) noexcept override {
        return manager_->try_create(tokens, {.salt = salt});
    }
    [[nodiscard]] vtensor::status try_extend(std::span<const kv::extension> step) noexcept override {
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
    [[nodiscard]] vtensor::result<kv::placed_sequence> try_resume(sequence_id id) noexcept override {
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
    [[nodiscard]] kv::manager_stats stats() const noexcept override { return manager_->stats(); }
    [[nodiscard]] std::optional<vtensor::bytes> counted_by_kernel() const override {
        return backend_.kernel_physical_bytes();
    }
    [[nodiscard]] bool verify() noexcept override { return manager_->verify(); }

  private:
    vtensor::host_backend& backend_;
    std::optional<vtensor::mapper> mapper_;
    typename layer_type::pool_type pool_;
    std::unique_ptr<manager_type> manager_; // gone before the pool and the thread
    managed_rows<cache_type> rows_;
};

} // namespace

std::unique_ptr<managed_sequences> make_managed_sequences(vtensor::host_backend& backend,
                                                          const kv_shape& shape, const kv_options& options) {
    switch (options.type) {
    case kv_type::f32:
        return std::make_unique<managed_sequences_of<float>>(backend, shape, options);
    case kv_type::f16:
        return std::make_unique<managed_sequences_of<vtensor::float16>>(backend, shape, options);
    case kv_type::bf16:
        return std::make_unique<managed_sequences_of<vtensor::bfloat16>>(backend, shape, options);
    }
    return nullptr;
}

} // namespace decoder
