// SPDX-License-Identifier: Apache-2.0
//
// The caches of a manager: which are in use, which hold a recorded prefix, which are blank; and how one
// becomes the other. When memory must be given back is known to manager_memory.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/detail/cache_shelf.hpp>
#include <vtensor/kv/detail/make_layer.hpp>
#include <vtensor/kv/detail/manager_counters.hpp>
#include <vtensor/kv/detail/mapped_ahead.hpp>
#include <vtensor/kv/manager_options.hpp>
#include <vtensor/kv/model_shape.hpp>
#include <vtensor/kv/prefix_tree.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <optional>
#include <utility>

namespace vtensor::kv::detail {

/// Used by one thread, the manager's, but for `stats`.
template <class Cache>
class cache_keeper {
  public:
    using pool_type = typename Cache::pool_type;
    using stream_type = typename Cache::stream_type;
    using entry = cache_entry<Cache>;
    using tree_type = prefix_tree<entry*>;
    using options_type = manager_options<typename Cache::layer_type::growth_policy_type>;

    cache_keeper(pool_type& pool, const model_shape& shape, const options_type& options) noexcept
        : pool_{&pool},
          shape_{shape},
          options_{options},
          ahead_{options.thread, options.tokens_ahead, shape.layer.max_rows} {}

    [[nodiscard]] pool_type& pool() const noexcept { return *pool_; }
    [[nodiscard]] const model_shape& shape() const noexcept { return shape_; }
    [[nodiscard]] const options_type& options() const noexcept { return options_; }
    [[nodiscard]] tree_type& tree() noexcept { return tree_; }
    [[nodiscard]] const tree_type& tree() const noexcept { return tree_; }
    [[nodiscard]] cache_shelf<Cache>& shelf() noexcept { return shelf_; }
    [[nodiscard]] const cache_shelf<Cache>& shelf() const noexcept { return shelf_; }
    [[nodiscard]] mapped_ahead<Cache>& ahead() noexcept { return ahead_; }
    [[nodiscard]] const mapped_ahead<Cache>& ahead() const noexcept { return ahead_; }
    [[nodiscard]] manager_counters& counters() noexcept { return counters_; }
    [[nodiscard]] const manager_counters& counters() const noexcept { return counters_; }

    /// Keys and values of so many tokens.
    [[nodiscard]] bytes rows_of(std::size_t tokens) const noexcept {
        const layer_shape& layer = shape_.layer;
        return bytes{shape_.layers * layer.kv_heads * (layer.key_width + layer.value_width) *
                     sizeof(typename Cache::value_type) * tokens};
    }
    /// What a cache that has `ready` tokens mapped needs for `tokens`: about that where heads are packed, as
    /// their room depends on how they grew, or rows were evicted; otherwise exactly.
    [[nodiscard]] bytes estimate(std::size_t ready, std::size_t tokens) const noexcept {
        const auto pages = [&](std::size_t rows) {
            return pages_of_layer<typename Cache::layer_type>(shape_.layer, options_.cache,
                                                              pool_->chunk_size(), rows);
        };
        return tokens <= ready ? bytes{0} : (pages(tokens) - pages(ready)) * shape_.layers;
    }
    [[nodiscard]] bool is_limited() const noexcept { return pool_->limit() != bytes{0}; }
    /// What can be mapped without giving anything back.
    [[nodiscard]] bytes available() const noexcept {
        const auto now = pool_->stats();
        if (now.limit == bytes{0})
            return bytes{std::numeric_limits<std::size_t>::max()};
        return now.limit > now.in_use ? now.limit - now.in_use : bytes{0};
    }

    /// Of all caches, those to come too.
    void set_stream(const stream_type& stream) noexcept requires Cache::moves_on_streams {
        ahead_.close(); // the mapper uses none of them meanwhile
        stream_ = stream;
        for (const cache_use use : {cache_use::running, cache_use::held, cache_use::blank}) {
            for (entry& one : shelf_.of(use))
                one.cache.set_stream(stream);
        }
        ahead_.open();
    }

    // ---- caches ----

    /// A cache without rows for a sequence that will have about `wanted` bytes of its own, in use: a blank
    /// one where there is one that suits. Before pages would have to be unmapped for it that are of use,
    /// `spare()` gives some back, if it can, or the prefix used longest ago leaves its pages to it.
    template <class Spare>
    [[nodiscard]] result<entry*> take(salt_id salt, bytes wanted, Spare spare) noexcept {
        while (wanted > available() && !suits_a_blank(salt, wanted) && (spare() || take_prefix_over(salt)))
            continue;
        entry* found = shelf_.best_blank(salt, wanted);
        if (found != nullptr && found->salt != salt) { // the owner of a cache is for life
            destroy(*found);
            found = nullptr;
        }
        if (found == nullptr) {
            auto made = make(salt);
            if (!made)
                return made;
            found = *made;
        }
        take(*found);
        return found;
    }
    /// A cache that was blank or held, in use as it is.
    void take(entry& one) noexcept {
        ahead_.exclude(one);
        shelf_.move(one, cache_use::running);
    }
    /// A cache that was made elsewhere, in use.
    [[nodiscard]] result<entry*> take(Cache&& made, salt_id salt) noexcept {
        auto added = add(std::move(made), salt);
        if (added)
            shelf_.move(**added, cache_use::running);
        return added;
    }
    /// No sequence runs on it any more. What the tree has of it stays, the rest is forgotten.
    void set_aside(entry& one) noexcept {
        ahead_.exclude(one);
        one.cache.keep_counts_in(nullptr); // the sequence's record goes
        if (one.recorded == 0) {
            if (one.is_broken) {
                destroy(one);
                return ahead_.open();
            }
            make_blank(one);
            return drop_spares();
        }
        one.cache.truncate(one.recorded);
        if (!options_.releases_lazily)
            static_cast<void>(one.cache.try_trim(one.recorded)); // what stays mapped is counted
        shelf_.move(one, cache_use::held);
        ahead_.open();
    }
    /// The tree has no more of it than so many tokens.
    void forget_recorded(entry& one, std::size_t left) noexcept {
        one.recorded = left;
        if (one.use != cache_use::held)
            return;
        ahead_.exclude(one);
        if (left == 0)
            return make_blank(one);
        one.cache.truncate(left);
        shelf_.recount(one);
    }

    // ---- figures ----

    /// From any thread.
    [[nodiscard]] manager_stats stats() const noexcept {
        const auto pool = pool_->stats();
        manager_stats now;
        now.running = counters_.running.get();
        now.preempted = counters_.preempted.get();
        now.tokens = counters_.tokens.get();
        now.reserved = bytes{counters_.reserved.get()};
        now.physical = pool.in_use;
        now.shared = pool.chunk_size * pool.aliases;
        now.mapped = now.physical + now.shared;
        now.recorded = shelf_.held();
        now.lazily_held = shelf_.held() + shelf_.blank();
        now.own = rows_of(now.tokens);
        const bytes in_use = now.mapped > now.lazily_held ? now.mapped - now.lazily_held : bytes{0};
        now.waste = in_use > now.own ? in_use - now.own : bytes{0};
        now.swapped = bytes{counters_.swapped.get()};
        now.prompt_tokens = counters_.prompt_tokens.get();
        now.matched_tokens = counters_.matched_tokens.get();
        now.adopted_tokens = counters_.adopted_tokens.get();
        now.preemptions = counters_.preemptions.get();
        now.look_ahead_failures = ahead_.failures();
        for (std::size_t index = 0; index < now.verbs.size(); ++index) {
            const verb_counters& one = counters_.verbs[index];
            now.verbs[index] = {one.calls.get(), one.failures.get(), one.nanoseconds.get()};
        }
        return now;
    }

    /// What caches that no sequence runs on could give back.
    struct idle_pages {
        bytes empty{};    ///< without rows
        bytes recorded{}; ///< with recorded rows that no running sequence has a part in
    };
    /// Of the caches that have the same locked tokens one will keep them: the one that has most pages of its
    /// own for them, lest too much is promised. O(their pages).
    [[nodiscard]] idle_pages idle() noexcept {
        idle_pages sum;
        for (entry& one : shelf_.of(cache_use::blank))
            sum.empty += one.cache.figures().ahead; // the mapper may be about to give some back
        for (entry& one : shelf_.of(cache_use::held)) {
            const cache_figures now = one.cache.figures();
            sum.empty += now.ahead;
            sum.recorded += now.mapped - now.shared - now.ahead;
            const auto [tokens, stands] = tree_.locked_of(&one);
            if (stands == nullptr)
                continue;
            const bytes pages = estimate(0, tokens);
            const bytes shared = now.shared - one.cache.shared_bytes(tokens);
            const bytes own = pages - std::min(pages, shared);
            if (own > stands->locked)
                sum.recorded -= own - std::exchange(stands->locked, own);
        }
        for (const cache_use use : {cache_use::held, cache_use::running}) {
            for (entry& one : shelf_.of(use))
                one.locked = bytes{0};
        }
        return sum;
    }
    [[nodiscard]] bytes reclaimable() noexcept {
        const idle_pages now = idle();
        return now.empty + now.recorded;
    }
    /// Each page wherever it is mapped. O(tensors of these caches).
    [[nodiscard]] bytes mapped_by(cache_use use) noexcept {
        bytes sum{0};
        for (entry& one : shelf_.of(use))
            sum += one.cache.figures().mapped;
        return sum;
    }
    /// Pages that running sequences have mapped ahead. O(tensors of running sequences).
    [[nodiscard]] bytes mapped_ahead_of_need() noexcept {
        bytes sum{0};
        for (entry& one : shelf_.of(cache_use::running))
            sum += one.cache.figures().ahead;
        return sum;
    }

    /// Nothing may be mapped ahead meanwhile. O(everything).
    [[nodiscard]] bool verify() const noexcept {
        bool sound = tree_.verify() && pool_->verify();
        std::size_t recorded = 0;
        for (const cache_use use : {cache_use::running, cache_use::held, cache_use::blank}) {
            for (const entry& one : shelf_.of(use)) {
                recorded += one.recorded > 0 ? 1 : 0;
                sound = sound && one.use == use && one.cache.verify() && one.recorded <= one.cache.tokens();
                sound = sound && (use != cache_use::held || one.cache.tokens() == one.recorded);
                sound = sound && (use != cache_use::blank || one.cache.tokens() == 0);
                sound = sound && (use != cache_use::held || one.recorded > 0);
            }
        }
        return sound && recorded == tree_.figures().holders;
    }

  protected:
    /// The cache whose prefix was used longest ago, and has it no more; null where there is none that may go.
    entry* evict_prefix() noexcept {
        const auto evicted = tree_.evict_least_recent();
        if (!evicted)
            return nullptr;
        forget_recorded(*evicted->holder, evicted->tokens_left);
        return evicted->holder;
    }

    /// A cache that no sequence runs on and that has pages without rows, blank ones first; null where there
    /// is none. O(caches).
    [[nodiscard]] entry* first_with_empty_pages() noexcept {
        for (const cache_use use : {cache_use::blank, cache_use::held}) {
            for (entry& one : shelf_.of(use)) {
                if (one.empty != bytes{0})
                    return &one;
            }
        }
        return nullptr;
    }
    /// A cache that nobody uses keeps the pages of so many tokens.
    void trim(entry& one, std::size_t kept) noexcept {
        static_cast<void>(one.cache.try_trim(kept));
        shelf_.recount(one);
    }
    /// Of the caches without a page only a few are kept.
    void drop_spares() noexcept {
        auto& blanks = shelf_.of(cache_use::blank);
        std::size_t spare = 0;
        for (auto at = blanks.begin(); at != blanks.end();) {
            entry& one = *at++;
            if (one.mapped == bytes{0} && ++spare > options_.spare_caches)
                destroy(one);
        }
    }

  private:
    [[nodiscard]] result<entry*> make(salt_id salt) noexcept {
        auto own = options_.cache;
        own.owner = owner_id{static_cast<std::uint64_t>(salt)};
        auto made = Cache::try_create(*pool_, shape_, own);
        if (!made)
            return made.status();
        if constexpr (Cache::moves_on_streams) {
            if (stream_)
                made->set_stream(*stream_);
        }
        return add(*std::move(made), salt);
    }
    [[nodiscard]] result<entry*> add(Cache&& made, salt_id salt) noexcept {
        entry* const fresh = shelf_.add(std::move(made), salt);
        if (fresh == nullptr)
            return error{errc::out_of_memory, verb::create, 0, bytes{sizeof(entry)}};
        counters_.reserved.add(fresh->cache.figures().reserved.count());
        return fresh;
    }
    void destroy(entry& gone) noexcept {
        ahead_.exclude(gone);
        counters_.reserved.subtract(gone.cache.figures().reserved.count());
        shelf_.destroy(gone);
    }

    /// Its rows are forgotten. Pages that others share leave, with all behind them; the others stay, to be
    /// written by whoever takes the cache.
    void make_blank(entry& one) noexcept {
        const std::size_t tokens = one.cache.tokens();
        const bool keeps = options_.releases_lazily && one.cache.shared_bytes() == bytes{0} &&
                           one.cache.try_make_writable(0, tokens);
        one.cache.truncate(0);
        if (!keeps)
            static_cast<void>(one.cache.try_trim(0));
        shelf_.move(one, cache_use::blank);
        ahead_.open();
    }
    [[nodiscard]] bool suits_a_blank(salt_id salt, bytes wanted) noexcept {
        const entry* const best = shelf_.best_blank(salt, wanted);
        return best != nullptr && best->mapped + available() >= wanted;
    }
    /// Evicts the prefix used longest ago, so that its cache may be taken as it is. False where that cannot
    /// help.
    [[nodiscard]] bool take_prefix_over(salt_id salt) noexcept {
        if (!options_.releases_lazily)
            return false;
        const auto oldest = tree_.least_recent();
        if (!oldest || oldest->holder->salt != salt)
            return false;
        static_cast<void>(evict_prefix());
        return true;
    }
    pool_type* pool_;
    model_shape shape_;
    options_type options_;
    std::optional<stream_type> stream_; ///< where all work on the caches is queued
    manager_counters counters_;
    cache_shelf<Cache> shelf_;
    tree_type tree_;
    mapped_ahead<Cache> ahead_; ///< last: it is done with the caches before they go
};

} // namespace vtensor::kv::detail
