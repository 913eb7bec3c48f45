// SPDX-License-Identifier: Apache-2.0
//
// The KV cache of one sequence: layers × (K, V), in any of the layouts, that grow together or not at all.
// Adding a token whose memory is mapped costs one load, a comparison and an addition, whatever the number of
// layers. It knows nothing of other sequences and chooses nothing: a manager does.
#pragma once

#include <vtensor/core/abilities.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/core/error.hpp>
#include <vtensor/kv/cache_options.hpp>
#include <vtensor/kv/detail/layer_stack.hpp>
#include <vtensor/kv/detail/make_layer.hpp>
#include <vtensor/kv/detail/saved_rows.hpp>
#include <vtensor/kv/layer_cache.hpp>
#include <vtensor/kv/model_shape.hpp>
#include <vtensor/kv/token_counts.hpp>
#include <vtensor/memory/retiring_range.hpp>
#include <vtensor/policy/defrag.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>
#include <vtensor/policy/sharing.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <mutex>
#include <span>
#include <utility>

namespace vtensor::kv {

/// Tokens are counted from 0; token t has position t in every layer. Its rows hold unspecified values until
/// they are written through `keys` and `values`, or by a kernel.
///
/// Threads: one thread owns the cache and calls everything. While it does, one other thread, that of the
/// mapper for example, may be in `try_prepare`. `tokens()` and `ready()` may be read from anywhere. With a
/// pool for one thread (`no_mutex`) the cache is for one thread too, and nothing is locked.
/// The pool must outlive it. Every operation either does all of what it says or changes nothing, unless it
/// says otherwise; a moved-from cache has no layers and refuses to grow.
template <layer_cache Layer>
class kv_cache {
  public:
    using layer_type = Layer;
    using value_type = typename Layer::value_type;
    using backend_type = typename Layer::backend_type;
    using pool_type = typename Layer::pool_type;
    using options_type = cache_options<typename Layer::growth_policy_type>;
    using stream_type = vtensor::detail::stream_of<pool_type>; ///< means nothing where the backend has none

    /// Whether all that becomes of the rows can be queued: packed heads are moved by the CPU.
    static constexpr bool moves_on_streams =
        vtensor::detail::has_streams<pool_type> &&
        requires(Layer & layer, std::span<defrag::plan> plans, const stream_type& stream) {
        layer.try_defragment(defrag::compact{}, plans, stream);
    };

    /// Reserves addresses; maps nothing yet. `invalid_argument` where a size is 0, `out_of_addresses`,
    /// `unsupported` where the layout cannot be on that backend.
    [[nodiscard]] static result<kv_cache> try_create(pool_type& pool, const model_shape& shape,
                                                     const options_type& options = {}) noexcept {
        if (shape.is_empty())
            return error{errc::invalid_argument, verb::construct, 0, bytes{0}};
        kv_cache made{pool, shape, options};
        const status outcome = made.layers_.add(
            shape.layers, [&] { return detail::make_layer<Layer>(pool, shape.layer, options); });
        if (!outcome)
            return outcome;
        return made;
    }

    /// No other thread may be using either.
    kv_cache(kv_cache&& other) noexcept
        : shape_{other.shape_}, options_{other.options_}, layers_{std::move(other.layers_)} {
        take_counts(other);
    }
    kv_cache& operator=(kv_cache&& other) noexcept {
        if (this != &other) {
            shape_ = other.shape_;
            options_ = other.options_;
            layers_ = std::move(other.layers_);
            take_counts(other);
        }
        return *this;
    }
    ~kv_cache() = default;

    [[nodiscard]] const model_shape& shape() const noexcept { return shape_; }
    [[nodiscard]] const options_type& options() const noexcept { return options_; }
    [[nodiscard]] pool_type& pool() const noexcept { return layers_.pool(); }

    /// All work on the rows is queued on this stream from now on, and nothing of it needs to be done when a
    /// verb is called: what the cache copies is queued behind it, and before pages are unmapped, exchanged or
    /// touched by the CPU the call waits on the host, as the destructor does. Without a stream nothing queued
    /// may be using what a verb names. The stream must outlive the cache.
    void set_stream(const stream_type& stream) noexcept requires moves_on_streams {
        layers_.set_stream(stream);
    }

    // ---- tokens ----

    /// How many there are, evicted ones included: also the position of the token that is appended next.
    [[nodiscard]] std::size_t tokens() const noexcept { return counts_->tokens(); }
    /// How many there can be without mapping anything and without a failure.
    [[nodiscard]] std::size_t ready() const noexcept { return counts_->ready(); }

    /// Adds `count` tokens, in every layer or in none. O(1) up to `ready()`; beyond, all tensors grow as one
    /// transaction, in runs of pages (`cache_options::tokens_a_growth`). `limit_exceeded` where a head would
    /// have more rows than the shape allows.
    [[nodiscard]] status try_append(std::size_t count) noexcept {
        if (counts_->try_add(count))
            return {};
        const std::size_t before = tokens();
        if (count > std::numeric_limits<std::size_t>::max() - before)
            return error{errc::limit_exceeded, verb::grow, 0, bytes{0}};
        if (const status outcome = grow(before + count, true); !outcome)
            return outcome;
        counts_->set_tokens(before + count);
        return {};
    }

    /// `tokens()` and `ready()` are kept in `place` from now on, where others than the cache may count on,
    /// with `token_counts::try_add`; null brings them back. The place must stay until then, or until the
    /// cache is gone or moved from: a cache that takes its place keeps its own. No other thread may be using
    /// the cache.
    void keep_counts_in(token_counts* place) noexcept {
        token_counts& to = place != nullptr ? *place : own_counts_;
        if (&to == counts_)
            return;
        to.set_tokens(tokens());
        to.set_ready(ready());
        counts_ = &to;
    }

    /// Maps memory for `tokens` tokens in all, without adding them, so that `try_append` up to there cannot
    /// fail. O(layers + pages mapped). May be called by one other thread while the owner appends and reads:
    /// `busy` where a shared page would have to be replaced, which `try_append` does and `try_make_writable`.
    [[nodiscard]] status try_prepare(std::size_t tokens) noexcept { return grow(tokens, false); }

    /// Forgets the tokens from `tokens` on. Cannot fail, and unmaps nothing: `try_trim` does. Rows that were
    /// moved behind older ones leave a dead slot. O(layers), after an eviction O(rows).
    void truncate(std::size_t tokens) noexcept {
        if (tokens >= this->tokens())
            return;
        const std::lock_guard lock{mutex_};
        layers_.take_back(tokens);
        counts_->set_tokens(tokens);
        recount();
    }

    /// Unmaps what `tokens` tokens in all would not need; nothing that holds rows. Packed heads may move.
    /// Where the backend refuses to unmap, what was unmapped before stays so.
    [[nodiscard]] status try_trim(std::size_t tokens = 0) noexcept {
        const std::lock_guard lock{mutex_};
        settle_all();
        const status outcome = layers_.try_trim(tokens);
        recount();
        return outcome;
    }

    // ---- rows ----

    /// A layer with the rows of all tokens. While another thread is in `try_prepare`, ask it only for rows,
    /// positions and their descriptions. O(heads) after tokens were added, else O(1).
    [[nodiscard]] const Layer& layer(std::size_t index) noexcept { return settled(index); }
    /// The rows of a head, [slot, width], to be written; valid until tokens are added or rows move.
    [[nodiscard]] tensor_view<value_type, 2> keys(std::size_t layer, std::size_t head) noexcept {
        return settled(layer).keys(head);
    }
    [[nodiscard]] tensor_view<value_type, 2> values(std::size_t layer, std::size_t head) noexcept {
        return settled(layer).values(head);
    }

    // ---- rows that several sequences have ----

    /// The first `tokens` tokens of `donor`, which has as many, become this cache's, which has none. Whole
    /// pages are mapped a second time, as many as the rule says, and are read-only in both caches from then
    /// on; the rest is copied, on the stream or by the CPU; where heads are packed everything, by the CPU. Of
    /// a donor with evicted rows those at these positions. In all layers or in none; but surplus pages of
    /// this cache are given up first. `invalid_argument` where shape or pool differ. No other owner may be
    /// using the donor. O(pages).
    template <sharing_policy Rule = sharing::map_all>
    [[nodiscard]] status try_share_prefix_of(kv_cache& donor, std::size_t tokens,
                                             const Rule& rule = {}) noexcept {
        if (!is_like(donor) || this->tokens() != 0 || tokens > donor.tokens())
            return error{errc::invalid_argument, verb::share, 0, bytes{0}};
        const std::scoped_lock lock{mutex_, donor.mutex_};
        donor.settle_all();
        if (const status outcome = layers_.try_share(donor.layers_, tokens, rule); !outcome)
            return outcome;
        counts_->set_tokens(tokens);
        recount();
        donor.recount();
        return {};
    }
    /// Of the first `tokens` tokens, how many another cache can be given. Where the CPU does not reach the
    /// memory and there is no stream, those on whole pages: nobody could copy the rest.
    [[nodiscard]] std::size_t shareable(std::size_t tokens) const noexcept {
        const backend_type& backend = pool().backend();
        if (vtensor::detail::reaches_memory(backend) || layers_.stream() != nullptr)
            return tokens;
        const std::size_t whole = Layer::rows_of_pages(shape_.layer, pool().chunk_size());
        return whole == 0 || !vtensor::detail::can_alias(backend) ? 0 : tokens - tokens % whole;
    }
    /// The rows of the first `tokens` tokens, which both caches have, are equal in both, says the caller: no
    /// byte is looked at. The whole pages that they fill are in memory once afterwards: this cache's are
    /// exchanged for the donor's, which are read-only in both from then on, and go back to the pool. In all
    /// layers or in none; nothing happens where heads are packed. Pages that are the donor's already cost no
    /// call of the backend. `invalid_argument` where shape or pool differ or a cache has fewer tokens,
    /// `unsupported` where rows of one were evicted, `out_of_memory` for the tables. Nobody may be reading
    /// these rows of this cache, and no other owner be using the donor. O(pages).
    [[nodiscard]] status try_merge_prefix_of(kv_cache& donor, std::size_t tokens) noexcept {
        if (!is_like(donor) || tokens > this->tokens() || tokens > donor.tokens())
            return error{errc::invalid_argument, verb::share, 0, bytes{0}};
        const std::scoped_lock lock{mutex_, donor.mutex_};
        if (!is_whole() || !donor.is_whole())
            return error{errc::unsupported, verb::share, 0, bytes{0}};
        const status outcome = layers_.try_merge(donor.layers_, tokens);
        recount();
        donor.recount();
        return outcome;
    }
    /// A cache like this one, with all its tokens.
    template <sharing_policy Rule = sharing::map_all>
    [[nodiscard]] result<kv_cache> try_fork(const Rule& rule = {}) noexcept {
        auto made = try_create(layers_.pool(), shape_, options_);
        if (!made)
            return made;
        made->layers_.use_stream_of(layers_);
        if (const status outcome = made->try_share_prefix_of(*this, tokens(), rule); !outcome)
            return outcome;
        return made;
    }
    /// The slots [first, first + count) of every head that has them may be written afterwards, in all layers,
    /// or nothing has changed. Nothing may be reading or writing these rows meanwhile. Appending makes what
    /// it adds writable by itself. `invalid_argument` beyond the tokens.
    [[nodiscard]] status try_make_writable(std::size_t first, std::size_t count) noexcept {
        if (first > tokens() || count > tokens() - first)
            return error{errc::invalid_argument, verb::make_writable, 0, bytes{0}};
        const std::lock_guard lock{mutex_};
        settle_all();
        const status outcome = layers_.try_make_writable(first, count);
        if (outcome)
            recount();
        return outcome;
    }
    /// Of `figures().mapped`, memory that other caches hold too; of the pages behind the first `tokens` rows
    /// of each head, where they are given. O(pages).
    [[nodiscard]] bytes shared_bytes(std::size_t tokens = 0) noexcept {
        const std::lock_guard lock{mutex_};
        settle_all();
        return layers_.shared_bytes(tokens);
    }

    // ---- swapping out ----

    /// Bytes of the rows of all tokens in plain memory.
    [[nodiscard]] bytes saved_size() const noexcept { return saved_size(tokens()); }
    /// Copies them there, `saved_size()` bytes; otherwise `invalid_argument`. `unsupported` where the CPU
    /// does not reach the rows, or rows were evicted. Nothing queued may be writing them. O(rows).
    [[nodiscard]] status save(std::span<std::byte> to) noexcept {
        if (const status outcome = check_saved(bytes{to.size()}, tokens()); !outcome)
            return outcome;
        if (!is_whole())
            return error{errc::unsupported, verb::copy, 0, bytes{0}};
        if (const status outcome = layers_.wait_for_work(); !outcome)
            return outcome;
        std::byte* next = to.data();
        for (std::size_t index = 0; index < layers_.size(); ++index)
            next = detail::save_rows(layers_[index], next);
        return {};
    }
    /// The rows that `save` copied, of a sequence of `tokens` tokens in a cache of the same shape. Where this
    /// one has no tokens they are appended, where it has as many they are overwritten: otherwise
    /// `invalid_argument`. Fails as `try_append`, `try_make_writable` and `save` do.
    [[nodiscard]] status load(std::span<const std::byte> from, std::size_t tokens) noexcept {
        const std::size_t before = this->tokens();
        if (before != 0 && before != tokens)
            return error{errc::invalid_argument, verb::copy, 0, bytes{0}};
        if (const status outcome = check_saved(bytes{from.size()}, tokens); !outcome)
            return outcome;
        if (before != 0 && !is_whole())
            return error{errc::unsupported, verb::copy, 0, bytes{0}};
        if (const status outcome = layers_.wait_for_work(); !outcome)
            return outcome;
        if (const status outcome = before == 0 ? try_append(tokens) : try_make_writable(0, tokens); !outcome)
            return outcome;
        settle_all();
        const std::byte* next = from.data();
        for (std::size_t index = 0; index < layers_.size(); ++index)
            next = detail::load_rows(layers_[index], next);
        return {};
    }

    // ---- eviction ----

    /// In every head of every layer all rows die but those in `kept`, which has as many layers. See
    /// `layer_cache`.
    [[nodiscard]] status try_evict(const eviction::kept_rows& kept) noexcept {
        if (kept.layers() != layers_.size())
            return error{errc::invalid_argument, verb::evict, 0, bytes{0}};
        return evict(0, layers_.size(), kept, 0);
    }
    /// The same in one layer: those of layer `of` in `kept` stay.
    [[nodiscard]] status try_evict(std::size_t layer, const eviction::kept_rows& kept,
                                   std::size_t of) noexcept {
        if (layer >= layers_.size())
            return error{errc::invalid_argument, verb::evict, 0, bytes{0}};
        return evict(layer, layer + 1, kept, of);
    }

    /// Brings the live rows of every head of a layer together, as `layer_cache` says it. `stream`: what else
    /// the layer's verb takes.
    template <class Policy, class... Stream>
    [[nodiscard]] status try_defragment(std::size_t layer, const Policy& policy,
                                        std::span<defrag::plan> plans,
                                        const Stream&... stream) noexcept requires requires(Layer& one) {
        one.try_defragment(policy, plans, stream...);
    }
    {
        if (layer >= layers_.size())
            return error{errc::invalid_argument, verb::defragment, 0, bytes{0}};
        const std::lock_guard lock{mutex_};
        if constexpr (sizeof...(stream) == 0) { // the CPU moves them
            if (const status outcome = layers_.wait_for_work(); !outcome)
                return outcome;
        }
        settle_all();
        const status outcome = layers_[layer].try_defragment(policy, plans, stream...);
        recount();
        return outcome;
    }

    // ---- figures ----

    [[nodiscard]] cache_figures figures() noexcept {
        const std::lock_guard lock{mutex_};
        settle_all();
        cache_figures now = layers_.figures();
        now.tokens = tokens();
        return now;
    }
    /// Checks the book-keeping, O(rows).
    [[nodiscard]] bool verify() const noexcept {
        const std::lock_guard lock{mutex_};
        return tokens() <= ready() && ready() <= layers_.prepared() && layers_.verify(tokens());
    }

  private:
    kv_cache(pool_type& pool, const model_shape& shape, const options_type& options) noexcept
        : shape_{shape}, options_{options}, layers_{pool} {}

    /// Whether another cache can have the same pages.
    [[nodiscard]] bool is_like(const kv_cache& other) const noexcept {
        return &other != this && layers_.size() != 0 && shape_ == other.shape_ &&
               other.layers_.size() == layers_.size() && &layers_.pool() == &other.layers_.pool();
    }
    /// Whether every head has the rows of all tokens, in order.
    [[nodiscard]] bool is_whole() noexcept {
        settle_all();
        for (std::size_t index = 0; index < layers_.size(); ++index)
            if (!detail::is_whole(layers_[index], tokens()))
                return false;
        return true;
    }
    [[nodiscard]] bytes saved_size(std::size_t tokens) const noexcept {
        const layer_shape& layer = shape_.layer;
        return bytes{(layer.key_width + layer.value_width) * sizeof(value_type) * layer.kv_heads *
                     layers_.size() * tokens};
    }
    [[nodiscard]] status check_saved(bytes size, std::size_t tokens) const noexcept {
        if (layers_.size() == 0 || tokens > shape_.layer.max_rows || size != saved_size(tokens))
            return error{errc::invalid_argument, verb::copy, 0, size};
        if (!vtensor::detail::reaches_memory(layers_.pool().backend()))
            return error{errc::unsupported, verb::copy, 0, size};
        return {};
    }
    /// Memory for `tokens` tokens: with what is wished for beyond them, or without where memory is short.
    status grow(std::size_t tokens, bool by_owner) noexcept {
        if (tokens <= ready())
            return {};
        const std::lock_guard lock{mutex_};
        if (tokens <= ready()) // the other thread was there
            return {};
        if (layers_.size() == 0)
            return error{errc::invalid_argument, verb::grow, 0, bytes{0}};
        const std::size_t wish = in_whole_growths(tokens);
        status outcome = layers_.try_prepare(wish, {.by_owner = by_owner});
        if (is_shortage(outcome.code()) && wish > tokens)
            outcome = layers_.try_prepare(tokens, {.by_owner = by_owner});
        if (is_shortage(outcome.code()))
            outcome = layers_.try_prepare(tokens, {.by_owner = by_owner, .surplus = false});
        if (outcome)
            recount();
        return outcome;
    }
    [[nodiscard]] std::size_t in_whole_growths(std::size_t tokens) const noexcept {
        const std::size_t unit = std::max<std::size_t>(options_.tokens_a_growth, 1);
        const std::size_t part = tokens % unit;
        return part == 0 || tokens > std::numeric_limits<std::size_t>::max() - unit ? tokens
                                                                                    : tokens - part + unit;
    }
    [[nodiscard]] Layer& settled(std::size_t index) noexcept {
        layers_.settle(index, tokens());
        return layers_[index];
    }
    void settle_all() noexcept { layers_.settle_all(tokens()); }
    /// What is ready, after it may have become more or less. The mutex is held.
    void recount() noexcept { counts_->set_ready(layers_.prepared()); }

    /// The layers from `first` to `last`, or none.
    status evict(std::size_t first, std::size_t last, const eviction::kept_rows& kept,
                 std::size_t of) noexcept {
        const std::lock_guard lock{mutex_};
        settle_all();
        for (std::size_t index = first; index < last; ++index) {
            if (const status outcome = layers_[index].try_prepare_eviction(kept, of + index - first);
                !outcome)
                return outcome;
        }
        for (std::size_t index = first; index < last; ++index)
            static_cast<void>(layers_[index].try_evict(kept, of + index - first)); // was prepared
        layers_.keep_prepared(ready());
        recount();
        return {};
    }

    /// The numbers of a cache that is moved from, which has none afterwards.
    void take_counts(kv_cache& other) noexcept {
        keep_counts_in(nullptr);
        other.keep_counts_in(nullptr);
        own_counts_.set_tokens(other.tokens());
        own_counts_.set_ready(other.ready());
        other.own_counts_.set_tokens(0);
        other.own_counts_.set_ready(0);
    }

    token_counts* counts_ = &own_counts_;
    token_counts own_counts_; ///< not used while they are kept elsewhere
    model_shape shape_;
    options_type options_;
    detail::layer_stack<Layer> layers_;
    /// Held while anything but the number of tokens changes: by `try_prepare` on another thread, or by the
    /// owner.
    mutable typename pool_type::mutex_type mutex_;
};

} // namespace vtensor::kv
