// SPDX-License-Identifier: Apache-2.0
//
// The library's own manager of sequences under the bench's engine: contiguous tensors that are mapped as they
// grow, prefixes mapped twice, pages kept mapped for the next sequence, and mapped ahead while the model
// computes.
#pragma once

#include "memory_manager.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/kv/manager.hpp>
#include <vtensor/kv/per_layer_cache.hpp>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace vtensor::bench {

struct vtensor_features {
    bool looks_ahead = true;
    bool releases_lazily = true;
};

template <vtensor_features Features>
class vtensor_side final : public memory_manager_under_test {
    using layer_type = kv::per_layer_cache<float16, host_backend, growth::exact, std::mutex>;
    using cache_type = kv::kv_cache<layer_type>;
    using manager_type = kv::manager<cache_type, reclaim::never_preempt>;

  public:
    explicit vtensor_side(const manager_options& options)
        : shape_{options.shape},
          pool_{memory_, {.chunk_size = options.page, .limit = options.limit}},
          headroom_{static_cast<std::size_t>(static_cast<double>(options.limit.count()) * options.headroom)},
          prefixes_{options.prefixes} {
        if (options.shape.element != sizeof(float16))
            throw std::runtime_error{"vtensor's side of the bench has elements of 2 bytes"};
        typename manager_type::options_type own;
        own.thread = Features.looks_ahead ? &thread_ : nullptr;
        own.tokens_ahead = ahead;
        own.cache.tokens_a_growth = growth_of(options);
        own.shares_prefixes = options.prefixes;
        own.releases_lazily = Features.releases_lazily;
        const kv::layer_shape layer{options.shape.heads, options.shape.width, options.shape.width,
                                    options.max_tokens};
        manager_ = manager_type::try_create(pool_, {options.shape.layers, layer}, own).value();
    }

    [[nodiscard]] std::string name() const override {
        if (Features.looks_ahead && Features.releases_lazily)
            return "vtensor";
        return Features.looks_ahead ? "vtensor, eager release" : "vtensor, no look-ahead";
    }

    [[nodiscard]] std::optional<admission> begin(std::span<const token_id> prompt,
                                                 std::uint64_t salt) override {
        changed_ = true;
        // Without prefixes it is known beforehand what it takes.
        if (live_ > 0 && !prefixes_ && shape_.token() * prompt.size() + headroom_ > manager_->room())
            return std::nullopt;
        const auto made = manager_->try_create(prompt, {.salt = kv::salt_id{salt}});
        if (!made) {
            expect_shortage(made.status());
            return std::nullopt;
        }
        const auto id = static_cast<sequence_id>(made->id);
        if (live_ > 0 && manager_->room() < headroom_) {
            throw_if_failed(manager_->try_release(made->id));
            return std::nullopt;
        }
        ++live_;
        if (prefixes_)
            fresh_.push_back(made->id);
        return admission{id, made->matched};
    }
    [[nodiscard]] bool extend(std::span<const extension> batch) override {
        record_fresh();
        batch_.clear();
        for (const extension& one : batch)
            batch_.push_back({kv::sequence_id{one.sequence}, one.tokens});
        const status outcome = manager_->try_extend(batch_);
        if (!outcome) {
            expect_shortage(outcome);
            changed_ = true;
        }
        return outcome.ok();
    }
    void preempt(sequence_id sequence, std::span<const token_id>) override { leave(sequence, false); }
    void end(sequence_id sequence, std::span<const token_id>) override { leave(sequence, prefixes_); }

    [[nodiscard]] double while_computing(double) override {
        const auto start = std::chrono::steady_clock::now();
        if (Features.looks_ahead)
            thread_.drain();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    [[nodiscard]] memory_figures figures() const override {
        const auto pool = pool_.stats();
        // The mapper may have given pages back and taken others.
        if (changed_ || pool.in_use != last_.in_use || pool.acquired != last_.acquired)
            kept_ = manager_->reclaimable();
        changed_ = false;
        last_ = pool;
        return {pool.created, pool.in_use - kept_, kept_};
    }
    [[nodiscard]] std::byte* key_row(sequence_id sequence, std::size_t token) override {
        cache_type* const cache = manager_->cache(kv::sequence_id{sequence});
        if (cache == nullptr)
            throw std::logic_error{"a sequence without rows"};
        const auto keys = cache->keys(0, 0);
        return reinterpret_cast<std::byte*>(&keys(token, 0));
    }
    [[nodiscard]] bool verify() const override { return manager_->verify(); }

    [[nodiscard]] std::optional<double> adopted() const override {
        const auto now = manager_->stats();
        return static_cast<double>(now.adopted_tokens) /
               static_cast<double>(std::max<std::uint64_t>(now.prompt_tokens, 1));
    }

  private:
    static constexpr std::size_t ahead = 32;

    /// Small pages are mapped some at a time, as the kernel counts mappings; large ones hold enough.
    [[nodiscard]] static std::size_t growth_of(const manager_options& options) {
        return options.page < 64_KiB ? ahead : 0;
    }
    static void expect_shortage(const status& outcome) {
        if (!is_shortage(outcome.code()))
            throw_if_failed(outcome);
    }
    /// The prompts that were let in before this step have been computed.
    void record_fresh() {
        for (const kv::sequence_id one : fresh_)
            if (manager_->state(one))
                throw_if_failed(manager_->try_record(one));
        fresh_.clear();
    }
    void leave(sequence_id sequence, bool record) {
        changed_ = true;
        --live_;
        const kv::sequence_id id{sequence};
        if (record)
            throw_if_failed(manager_->try_record(id));
        throw_if_failed(manager_->try_release(id));
    }

    kv_shape shape_;
    host_backend memory_;
    typename layer_type::pool_type pool_;
    mapper thread_;
    std::unique_ptr<manager_type> manager_;
    bytes headroom_;
    bool prefixes_;
    std::size_t live_ = 0;
    std::vector<kv::sequence_id> fresh_; ///< prompts not computed when they were let in
    std::vector<kv::extension> batch_;
    mutable bool changed_ = true;
    mutable chunk_pool_stats last_{};
    mutable bytes kept_{};
};

} // namespace vtensor::bench
