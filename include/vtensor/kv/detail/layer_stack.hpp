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
#include <vtensor/memory/retiring_range.hpp>
#include <vtensor/memory/slot_map.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

namespace vtensor::kv::detail {

/// How memory is prepared.
struct growth {
    bool by_owner = false; ///< nobody reads meanwhile, so that shared pages may be replaced by copies
    bool surplus = true;   ///< with what the growth policy wishes for
};

/// The owner's thread adds rows and reads them; another may be in `try_prepare` meanwhile. A mutex guards the
/// rows and the book-keeping of all layers; it is not held while memory is mapped, so that the owner does not
/// wait for that. Every other verb needs that no `try_prepare` is running.
///
/// A layer has the tokens below `next_position()`; the tokens that the sequence has beyond those are to be
/// added, and there is memory for them.
template <layer_cache Layer>
class layer_stack {
  public:
    using pool_type = typename Layer::pool_type;
    using stream_type = vtensor::detail::stream_of<pool_type>;

    explicit layer_stack(pool_type& pool) noexcept : pool_{&pool} {}
    layer_stack(layer_stack&& other) noexcept
        : pool_{other.pool_}, layers_{std::exchange(other.layers_, {})}, stream_{other.stream_} {}
    layer_stack& operator=(layer_stack&& other) noexcept {
        wait_before_they_go();
        pool_ = other.pool_;
        layers_ = std::exchange(other.layers_, {});
        stream_ = other.stream_;
        return *this;
    }
    ~layer_stack() { wait_before_they_go(); }

    /// Adds `count` layers, each from `make()`, which returns a result.
    template <class Make>
    [[nodiscard]] status add(std::size_t count, Make make) noexcept {
        try {
            layers_.reserve(count);
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::construct, 0, bytes{count * sizeof(Layer)}};
        } catch (const std::length_error&) {
            return error{errc::out_of_memory, verb::construct, 0,
                         bytes{std::numeric_limits<std::size_t>::max()}};
        }
        for (std::size_t index = 0; index < count; ++index) {
            auto made = make();
            if (!made)
                return made.status();
            layers_.push_back(*std::move(made));
        }
        return {};
    }

    [[nodiscard]] pool_type& pool() const noexcept { return *pool_; }

    /// Where all work on the layers is queued from now on.
    void set_stream(const stream_type& stream) noexcept { stream_ = stream; }
    void use_stream_of(const layer_stack& other) noexcept { stream_ = other.stream_; }
    /// Null where nothing is queued.
    [[nodiscard]] const stream_type* stream() const noexcept { return stream_ ? &*stream_ : nullptr; }
    /// Nothing queued uses the layers any more. Waits on the host.
    [[nodiscard]] status wait_for_work() noexcept {
        if constexpr (vtensor::detail::has_streams<pool_type>) {
            if (stream_)
                return pool_->retiring().wait_for(*stream_);
        }
        return {};
    }

    [[nodiscard]] std::size_t size() const noexcept { return layers_.size(); }
    [[nodiscard]] Layer& operator[](std::size_t index) noexcept { return layers_[index]; }
    [[nodiscard]] const Layer& operator[](std::size_t index) const noexcept { return layers_[index]; }

    /// Every layer has memory for `tokens` tokens, or nothing changed: neither in the layers nor in the pool.
    /// Layer by layer and tensor by tensor, so that the pages of a tensor come from neighbouring chunks.
    [[nodiscard]] status try_prepare(std::size_t tokens, const growth& how) noexcept {
        const bytes created = pool_->stats().created;
        steps_type steps{stream()};
        std::size_t planned = 0;
        status outcome;
        for (std::size_t index = 0; index < layers_.size() && outcome; ++index) {
            outcome = plan(layers_[index], tokens, how, steps);
            if (!outcome)
                break;
            ++planned;
            outcome = layers_[index].try_map();
            if (outcome && !how.surplus) {
                const std::lock_guard lock{mutex_};
                layers_[index].drop_surplus();
            }
        }
        if (outcome) {
            steps.finish();
            return outcome;
        }
        while (planned-- > 0) {
            const std::lock_guard lock{mutex_};
            layers_[planned].undo_map();
        }
        steps.undo();
        discard_beyond(created);
        return outcome;
    }

    /// How many tokens the sequence can have without anything that may fail.
    [[nodiscard]] std::size_t prepared() const noexcept {
        const std::lock_guard lock{mutex_};
        std::size_t least = layers_.empty() ? 0 : std::numeric_limits<std::size_t>::max();
        for (const Layer& layer : layers_)
            least = std::min(least, layer.next_position() + layer.prepared());
        return least;
    }

    /// The layer has rows for the first `tokens` tokens, for which memory was prepared.
    void settle(std::size_t index, std::size_t tokens) noexcept {
        Layer& layer = layers_[index];
        const std::size_t there = layer.next_position();
        if (there == tokens)
            return;
        const std::lock_guard lock{mutex_}; // of the layer's rows: what is mapped may grow meanwhile
        layer.add_prepared(tokens - there);
    }
    void settle_all(std::size_t tokens) noexcept {
        for (std::size_t index = 0; index < layers_.size(); ++index)
            settle(index, tokens);
    }

    void take_back(std::size_t tokens) noexcept {
        for (Layer& layer : layers_)
            layer.take_back(static_cast<position_type>(std::min(tokens, slot_map::most)));
    }

    /// Unmaps what is not needed for `tokens` tokens. Layer by layer: where the backend refuses, the layers
    /// before that are trimmed.
    [[nodiscard]] status try_trim(std::size_t tokens) noexcept {
        if (const status outcome = wait_for_work(); !outcome)
            return outcome;
        for (Layer& layer : layers_) {
            if (const status outcome = layer.try_trim(missing(layer, tokens)); !outcome)
                return outcome;
        }
        return {};
    }

    /// The first `tokens` tokens of `donor` in every layer, or in none; nothing is settled here, everything
    /// there. Of layers with evicted rows, the rows of these positions.
    template <class Rule>
    [[nodiscard]] status try_share(layer_stack& donor, std::size_t tokens, const Rule& rule) noexcept {
        const bytes created = pool_->stats().created;
        steps_type steps{stream()};
        status outcome;
        std::size_t shared = 0;
        for (; shared < layers_.size() && outcome; ++shared) {
            Layer& from = donor.layers_[shared];
            outcome = layers_[shared].try_share_prefix_of(from, is_evicted(from) ? slot_map::most : tokens,
                                                          rule, steps);
        }
        if (outcome) {
            steps.finish();
            take_back(tokens);
            return outcome;
        }
        for (std::size_t index = shared - 1; index-- > 0;) // the last one has changed nothing by itself
            layers_[index].undo_share();
        steps.undo();
        discard_beyond(created);
        return outcome;
    }
    /// The first `tokens` tokens, which are equal to those of `donor`, lie on its pages, in every layer or in
    /// none; everything is settled in both, and nothing was evicted.
    [[nodiscard]] status try_merge(layer_stack& donor, std::size_t tokens) noexcept {
        steps_type steps{stream()};
        for (std::size_t index = 0; index < layers_.size(); ++index) { // what is in `steps` is undone
            if (const status outcome =
                    layers_[index].try_merge_prefix_of(donor.layers_[index], tokens, steps);
                !outcome)
                return outcome;
        }
        steps.finish();
        return {};
    }
    /// Of every head of every layer, or of none.
    [[nodiscard]] status try_make_writable(std::size_t first, std::size_t count) noexcept {
        steps_type steps{stream()};
        for (Layer& layer : layers_) { // where one fails, what is in `steps` is undone
            if (const status outcome = layer.try_make_writable(first, count, steps); !outcome)
                return outcome;
        }
        steps.finish();
        return {};
    }

    /// Room of the slots again, where an eviction took it: the memory is there. Not to be had, the next
    /// growth tells.
    void keep_prepared(std::size_t tokens) noexcept {
        for (Layer& layer : layers_) {
            if (!layer.try_plan(missing(layer, tokens)))
                return;
        }
    }

    [[nodiscard]] bytes shared_bytes(std::size_t rows) const noexcept {
        bytes sum{0};
        for (const Layer& layer : layers_)
            sum += layer.shared_bytes(rows);
        return sum;
    }
    [[nodiscard]] cache_figures figures() const noexcept {
        cache_figures sum;
        for (const Layer& layer : layers_) {
            const layer_figures one = layer.figures();
            sum.live_rows += one.live_rows;
            sum.used += one.used;
            sum.mapped += one.mapped;
            sum.reserved += one.reserved;
            sum.shared += one.shared;
            sum.part_pages += one.part_pages;
            sum.ahead += one.ahead;
        }
        return sum;
    }

    /// Checks the book-keeping of a sequence of `tokens` tokens, O(rows).
    [[nodiscard]] bool verify(std::size_t tokens) const noexcept {
        return std::all_of(layers_.begin(), layers_.end(), [&](const Layer& layer) {
            const std::size_t there = layer.next_position();
            return layer.verify() && there <= tokens && tokens - there <= layer.prepared();
        });
    }

  private:
    /// Memory is unmapped with the layers. A passing failure is met by a second try; after another the device
    /// does nothing any more.
    void wait_before_they_go() noexcept {
        if (!layers_.empty() && !wait_for_work())
            static_cast<void>(wait_for_work());
    }

    using steps_type = typename Layer::steps_type;

    [[nodiscard]] static std::size_t missing(const Layer& layer, std::size_t tokens) noexcept {
        const std::size_t there = layer.next_position();
        return tokens > there ? tokens - there : 0;
    }
    [[nodiscard]] static bool is_evicted(const Layer& layer) noexcept {
        for (std::size_t head = 0; head < layer.shape().kv_heads; ++head)
            if (!layer.positions(head).empty() || layer.rows(head) != layer.rows(0))
                return true;
        return false;
    }
    [[nodiscard]] status plan(Layer& layer, std::size_t tokens, const growth& how,
                              steps_type& steps) noexcept {
        const std::lock_guard lock{mutex_};
        const std::size_t count = missing(layer, tokens);
        if (const status outcome = layer.try_plan(count); !outcome || !layer.must_own(count))
            return outcome;
        return how.by_owner ? layer.try_own(count, steps)
                            : status{error{errc::busy, verb::make_writable, 0, bytes{0}}};
    }
    /// What was created for a growth that failed goes back to the backend. Other users of the pool may make
    /// this less, or lose free chunks to it, never more than that.
    void discard_beyond(bytes created) noexcept {
        const bytes now = pool_->stats().created;
        if (now > created)
            pool_->discard((now - created) / pool_->chunk_size());
    }

    pool_type* pool_;
    std::vector<Layer> layers_;
    std::optional<stream_type> stream_;
    mutable typename pool_type::mutex_type mutex_;
};

} // namespace vtensor::kv::detail
