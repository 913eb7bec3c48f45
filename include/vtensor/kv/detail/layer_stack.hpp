// SPDX-License-Identifier: Apache-2.0
//
// The layers of one sequence: memory for all of them or for none, and rows that are added to each when it is
// looked at. Which tokens there are is said by kv_cache.hpp.
#pragma once

#include <vtensor/core/config.hpp>
#include <vtensor/core/error.hpp>
#include <vtensor/core/rows.hpp>
#include <vtensor/core/units.hpp>
#include <vtensor/kv/layer_cache.hpp>
#include <vtensor/kv/model_shape.hpp>
#include <vtensor/kv/surplus.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <mutex>
#include <new>
#include <stdexcept>
#include <utility>
#include <vector>

namespace vtensor::kv::detail {

/// The owner's thread adds rows and reads them; another may be in `try_prepare` meanwhile. Every layer has a
/// mutex, held while its memory or its rows change, never longer: the owner waits for the mapping of the
/// layer he asks for at most. Every other verb needs that no `try_prepare` is running.
///
/// A layer has the tokens below `next_position()`; the tokens that the sequence has beyond those are to be
/// added, and there is memory for them.
template <layer_cache Layer>
class layer_stack {
  public:
    using pool_type = typename Layer::pool_type;

    explicit layer_stack(pool_type& pool) noexcept : pool_{&pool} {}
    layer_stack(layer_stack&& other) noexcept
        : pool_{other.pool_}, layers_{std::exchange(other.layers_, {})} {}
    layer_stack& operator=(layer_stack&& other) noexcept {
        pool_ = other.pool_;
        layers_ = std::exchange(other.layers_, {});
        return *this;
    }
    ~layer_stack() = default;

    /// Adds `count` layers, each from `make()`, which returns a result.
    template <class Make>
    [[nodiscard]] status add(std::size_t count, Make make) noexcept {
        try {
            layers_.reserve(count);
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::construct, 0, bytes{count * sizeof(guarded)}};
        } catch (const std::length_error&) {
            return error{errc::out_of_memory, verb::construct, 0,
                         bytes{std::numeric_limits<std::size_t>::max()}};
        }
        for (std::size_t index = 0; index < count; ++index) {
            auto made = make();
            if (!made)
                return made.status();
            layers_.emplace_back(*std::move(made));
        }
        return {};
    }

    [[nodiscard]] pool_type& pool() const noexcept { return *pool_; }
    [[nodiscard]] std::size_t size() const noexcept { return layers_.size(); }
    [[nodiscard]] Layer& operator[](std::size_t index) noexcept { return layers_[index].layer; }
    [[nodiscard]] const Layer& operator[](std::size_t index) const noexcept { return layers_[index].layer; }

    /// Every layer has memory for `tokens` tokens, or nothing changed: neither in the layers nor in the pool.
    /// Layer by layer and tensor by tensor, so that the pages of a tensor come from neighbouring chunks.
    [[nodiscard]] status try_prepare(std::size_t tokens, surplus with) noexcept {
        const bytes created = pool_->stats().created;
        for (std::size_t index = 0; index < layers_.size(); ++index) {
            const status outcome = prepare(layers_[index], tokens, with);
            if (outcome)
                continue;
            while (index-- > 0) {
                const std::lock_guard lock{layers_[index].mutex};
                layers_[index].layer.undo_prepare();
            }
            discard_beyond(created);
            return outcome;
        }
        return {};
    }

    /// How many tokens the sequence can have without anything that may fail.
    [[nodiscard]] std::size_t prepared() const noexcept {
        std::size_t least = layers_.empty() ? 0 : std::numeric_limits<std::size_t>::max();
        for (const guarded& each : layers_) {
            const std::lock_guard lock{each.mutex};
            least = std::min(least, each.layer.next_position() + each.layer.prepared());
        }
        return least;
    }

    /// The layer has rows for the first `tokens` tokens, for which memory was prepared.
    void settle(std::size_t index, std::size_t tokens) noexcept {
        guarded& each = layers_[index];
        const std::size_t there = each.layer.next_position();
        if (there == tokens)
            return;
        const std::lock_guard lock{each.mutex};
        [[maybe_unused]] const status outcome = each.layer.try_append(tokens - there);
        VTENSOR_ASSERT(outcome.ok());
    }
    void settle_all(std::size_t tokens) noexcept {
        for (std::size_t index = 0; index < layers_.size(); ++index)
            settle(index, tokens);
    }

    void take_back(std::size_t tokens) noexcept {
        for (guarded& each : layers_)
            each.layer.take_back(static_cast<position_type>(tokens));
    }

    /// Unmaps what is not needed for `tokens` tokens. Layer by layer: where the backend refuses, the layers
    /// before that are trimmed.
    [[nodiscard]] status try_trim(std::size_t tokens) noexcept {
        for (guarded& each : layers_) {
            const std::size_t there = each.layer.next_position();
            if (const status outcome = each.layer.try_trim(tokens > there ? tokens - there : 0); !outcome)
                return outcome;
        }
        return {};
    }

    /// Room of the slots again, where an eviction took it: the memory is there. Not to be had, the next
    /// growth tells.
    void keep_prepared(std::size_t tokens) noexcept {
        for (guarded& each : layers_) {
            if (!prepare(each, tokens, surplus::none))
                return;
        }
    }

    [[nodiscard]] cache_figures figures() const noexcept {
        cache_figures sum;
        for (const guarded& each : layers_) {
            const layer_figures one = each.layer.figures();
            sum.live_rows += one.live_rows;
            sum.used += one.used;
            sum.mapped += one.mapped;
            sum.reserved += one.reserved;
            sum.part_pages += one.part_pages;
        }
        return sum;
    }

    /// Checks the book-keeping of a sequence of `tokens` tokens, O(rows).
    [[nodiscard]] bool verify(std::size_t tokens) const noexcept {
        return std::all_of(layers_.begin(), layers_.end(), [&](const guarded& each) {
            const std::size_t there = each.layer.next_position();
            return each.layer.verify() && there <= tokens && tokens - there <= each.layer.prepared();
        });
    }

  private:
    struct guarded {
        explicit guarded(Layer&& made) noexcept : layer{std::move(made)} {}
        guarded(guarded&& other) noexcept : layer{std::move(other.layer)} {}
        guarded& operator=(guarded&&) = delete;
        ~guarded() = default;

        Layer layer;
        mutable typename pool_type::mutex_type mutex{};
    };

    [[nodiscard]] static status prepare(guarded& each, std::size_t tokens, surplus with) noexcept {
        const std::lock_guard lock{each.mutex};
        const std::size_t there = each.layer.next_position();
        return each.layer.try_prepare(tokens > there ? tokens - there : 0, with);
    }
    /// What was created for a growth that failed goes back to the backend. Other users of the pool may make
    /// this less, or lose free chunks to it, never more than that.
    void discard_beyond(bytes created) noexcept {
        const bytes now = pool_->stats().created;
        if (now > created)
            pool_->discard((now - created) / pool_->chunk_size());
    }

    pool_type* pool_;
    std::vector<guarded> layers_;
};

} // namespace vtensor::kv::detail
