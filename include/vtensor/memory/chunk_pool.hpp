// SPDX-License-Identifier: Apache-2.0
//
// Owns physical memory: chunks of one size, created when needed, kept for reuse, counted by reference. It
// never reserves an address and never maps. (The pSet of the vTensor paper, arXiv 2407.15309.)
#pragma once

#include <vtensor/core/abilities.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/chunk_pool_types.hpp>
#include <vtensor/memory/free_chunks.hpp>
#include <vtensor/memory/pooled_chunk.hpp>
#include <vtensor/memory/retire_queue.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <span>

namespace vtensor {

namespace detail {

/// In place of the retire queue where a backend has no streams.
struct no_retire_queue {
    template <class Pool>
    explicit constexpr no_retire_queue(Pool&) noexcept {}
};

template <backend Backend, mutex_type Mutex>
struct retire_queue_for {
    using type = no_retire_queue;
};
template <stream_ordered_backend Backend, mutex_type Mutex>
struct retire_queue_for<Backend, Mutex> {
    using type = retire_queue<Backend, Mutex>;
};

} // namespace detail

/// Fixed-size chunks of one backend. Thread-safe where `Mutex` is a mutex; `no_mutex` where one thread uses
/// the pool and every tensor on it. Neither copied nor moved: tensors point at it and must be gone before it.
template <backend Backend, mutex_type Mutex = no_mutex>
class chunk_pool {
  public:
    using backend_type = Backend;
    using mutex_type = Mutex;
    using chunk = pooled_chunk<Backend>;
    using retire_queue_type = typename detail::retire_queue_for<Backend, Mutex>::type;

    /// Throws `bad_argument` for a chunk size that is no multiple of the granularity, `backend_failure` with
    /// `errc::unsupported` where chunks are to be scrubbed and the backend's memory cannot be reached for it.
    explicit chunk_pool(Backend& backend, const chunk_pool_options& options = {})
        : chunk_pool{backend, options, validated{}} {
        throw_if_failed(check(backend, options));
    }

    /// The same without exceptions.
    [[nodiscard]] static result<std::unique_ptr<chunk_pool>>
    try_create(Backend& backend, const chunk_pool_options& options) noexcept {
        if (const status refusal = check(backend, options); !refusal)
            return refusal;
        std::unique_ptr<chunk_pool> pool{new (std::nothrow) chunk_pool{backend, options, validated{}}};
        if (pool == nullptr)
            return error{errc::out_of_memory, verb::construct, 0, bytes{sizeof(chunk_pool)}};
        return pool;
    }

    chunk_pool(const chunk_pool&) = delete;
    chunk_pool& operator=(const chunk_pool&) = delete;

    /// Every tensor on the pool must be gone. Chunks still in use are those that a tensor could not unmap:
    /// their memory lives on behind their addresses. A chunk that the backend refuses to take back is left to
    /// it.
    ~chunk_pool() {
        if constexpr (stream_ordered_backend<Backend>)
            retiring_.close();
        free_.close(used_);
    }

    /// Fills `chunks` with one reference each, or changes nothing: `limit_exceeded` where the limit is in the
    /// way, otherwise what the backend said. Before it creates chunks it reclaims those of pages whose
    /// retirement is over. O(chunks).
    [[nodiscard]] status acquire(std::span<chunk> chunks, owner_id owner = owner_id{}) noexcept {
        std::size_t created = 0;
        return acquire(chunks, owner, created);
    }
    /// The same, and says how many of them the backend had to create, for `discard`.
    [[nodiscard]] status acquire(std::span<chunk> chunks, owner_id owner, std::size_t& created) noexcept {
        reclaim_for(chunks.size());
        const std::lock_guard lock{mutex_};
        const std::size_t reused = std::min(chunks.size(), free_.size());
        const std::size_t missing = chunks.size() - reused;
        if (missing > 0) {
            if (const status outcome = create_free(missing); !outcome)
                return outcome;
        }
        for (chunk& taken : chunks) {
            node& entry = free_.take();
            used_.push_front(entry);
            entry.references = 1;
            entry.owner = owner;
            taken = chunk{entry};
        }
        created = missing;
        references_ += chunks.size();
        acquired_ += chunks.size();
        reused_ += reused;
        used_high_ = std::max(used_high_, used_.size());
        return {};
    }

    /// Gives up to `count` free chunks back to the backend, those that were created last: what an operation
    /// that failed later created and released. One that the backend refuses twice stays free.
    void discard(std::size_t count) noexcept {
        const std::lock_guard lock{mutex_};
        free_.discard(count);
    }

    /// One more reference to a chunk that is in use.
    void retain(chunk shared) noexcept {
        const std::lock_guard lock{mutex_};
        VTENSOR_ASSERT(shared && shared.entry_->references > 0);
        ++shared.entry_->references;
        ++references_;
    }

    /// One reference less; the last one makes the chunk free for reuse. Never fails and never calls the
    /// backend.
    void release(chunk given) noexcept {
        const std::lock_guard lock{mutex_};
        VTENSOR_ASSERT(given && given.entry_->references > 0);
        node& entry = *given.entry_;
        --references_;
        if (--entry.references > 0)
            return;
        used_.erase(used_.iterator_to(entry));
        free_.put(entry);
    }

    /// Whether the chunk shows what another owner wrote, and the pool was made to prevent that.
    [[nodiscard]] bool needs_scrub(chunk acquired) const noexcept {
        if (scrub_ == scrub_policy::never)
            return false;
        const std::lock_guard lock{mutex_};
        const node& entry = *acquired.entry_;
        return entry.written && entry.written_by != entry.owner;
    }

    /// The owner is about to see the chunk; `scrubbed` says that it was zeroed for him.
    void hand_over(chunk acquired, bool scrubbed) noexcept {
        if (scrub_ == scrub_policy::never)
            return;
        const std::lock_guard lock{mutex_};
        acquired.entry_->written = true;
        acquired.entry_->written_by = acquired.entry_->owner;
        scrubbed_ += scrubbed ? 1 : 0;
    }

    /// Who has the only reference to the chunk writes it from now on: what it holds is his.
    void adopt(chunk held, owner_id owner) noexcept {
        if (scrub_ == scrub_policy::never)
            return;
        const std::lock_guard lock{mutex_};
        held.entry_->owner = owner;
        held.entry_->written_by = owner;
    }

    /// Creates free chunks until `count` are free, all or nothing.
    [[nodiscard]] status prefill(std::size_t count) noexcept {
        reclaim_for(count);
        const std::lock_guard lock{mutex_};
        return count > free_.size() ? create_free(count - free_.size()) : status{};
    }

    /// Gives free chunks back to the backend until at most `keep` are free. Stops at the first that the
    /// backend does not take: that one and the rest stay free, and the error is returned.
    [[nodiscard]] status trim(std::size_t keep = 0) noexcept {
        const std::lock_guard lock{mutex_};
        return free_.destroy(free_.size() > keep ? free_.size() - keep : 0, verb::trim);
    }

    /// Sets the limit while running; 0 removes it. Free chunks that no longer fit are given back, and so are
    /// those of pages whose retirement is over. Refused with `limit_exceeded`, and the limit unchanged, where
    /// more than `limit` is in use. Where the backend does not take a chunk back the old limit stays; free
    /// chunks that it took before are gone.
    [[nodiscard]] status resize_limit(bytes limit) noexcept {
        reclaim_for(std::numeric_limits<std::size_t>::max());
        const std::lock_guard lock{mutex_};
        const std::size_t allowed = chunks_in(limit);
        if (used_.size() > allowed)
            return error{errc::limit_exceeded, verb::resize_limit, 0, limit};
        const std::size_t excess = created() > allowed ? created() - allowed : 0;
        if (const status outcome = free_.destroy(excess, verb::resize_limit); !outcome)
            return outcome;
        limit_ = limit;
        return {};
    }

    [[nodiscard]] chunk_pool_stats stats() const noexcept {
        const std::lock_guard lock{mutex_};
        return {chunk_size_,
                limit_,
                chunk_size_ * created(),
                chunk_size_ * used_.size(),
                chunk_size_ * free_.size(),
                chunk_size_ * used_high_,
                chunk_size_ * created_high_,
                acquired_,
                reused_,
                scrubbed_,
                references_ - used_.size()};
    }

    /// As `stats().limit`, for those who want nothing else: 0 for none.
    [[nodiscard]] bytes limit() const noexcept {
        const std::lock_guard lock{mutex_};
        return limit_;
    }
    [[nodiscard]] bytes chunk_size() const noexcept { return chunk_size_; }
    [[nodiscard]] Backend& backend() const noexcept { return *backend_; }

    /// The pages that were given up while queued work read them. Their chunks are in use.
    [[nodiscard]] retire_queue_type& retiring() noexcept requires stream_ordered_backend<Backend> {
        return retiring_;
    }
    [[nodiscard]] bool waits_for_retiring() const noexcept { return wait_for_retiring_; }

    /// How many references there are to a chunk in use.
    [[nodiscard]] std::size_t references(chunk shared) const noexcept {
        const std::lock_guard lock{mutex_};
        return shared.entry_->references;
    }

    /// Of these chunks in use, how many have more than one reference.
    [[nodiscard]] std::size_t count_shared(std::span<const chunk> chunks) const noexcept {
        const std::lock_guard lock{mutex_};
        return static_cast<std::size_t>(std::count_if(
            chunks.begin(), chunks.end(), [](const chunk& one) { return one.entry_->references > 1; }));
    }

    /// Checks the pool's own book-keeping, O(chunks): a chunk in use has a reference, a free one none.
    [[nodiscard]] bool verify() const noexcept {
        const std::lock_guard lock{mutex_};
        std::size_t references = 0;
        bool used = true;
        for (const node& entry : used_) {
            references += entry.references;
            used = used && entry.references > 0;
        }
        return used && references == references_ && free_.verify() &&
               (limit_ == bytes{0} || chunk_size_ * created() <= limit_);
    }

  private:
    using node = detail::chunk_node<Backend>;
    struct validated {};

    chunk_pool(Backend& backend, const chunk_pool_options& options, validated) noexcept
        : backend_{&backend},
          chunk_size_{options.chunk_size == bytes{0} ? backend.granularity() : options.chunk_size},
          scrub_{options.scrub},
          wait_for_retiring_{options.wait_for_retiring},
          limit_{options.limit},
          free_{backend, chunk_size_} {}

    static status check(const Backend& backend, const chunk_pool_options& options) noexcept {
        if (options.chunk_size % backend.granularity() != bytes{0})
            return error{errc::misaligned, verb::construct, 0, options.chunk_size};
        if (options.scrub != scrub_policy::never && !detail::reaches_memory(backend))
            return error{errc::unsupported, verb::construct, 0, bytes{0}};
        return {};
    }

    [[nodiscard]] std::size_t created() const noexcept { return used_.size() + free_.size(); }
    [[nodiscard]] std::size_t chunks_in(bytes limit) const noexcept {
        return limit == bytes{0} ? std::numeric_limits<std::size_t>::max() : limit / chunk_size_;
    }

    /// Tries to have `count` free chunks without asking the backend for new ones. The pool's mutex is free:
    /// the retire queue, which gives chunks back to the pool, locks its own first.
    void reclaim_for([[maybe_unused]] std::size_t count) noexcept {
        if constexpr (stream_ordered_backend<Backend>) {
            std::unique_lock lock{mutex_};
            const std::size_t free = free_.size();
            lock.unlock();
            if (count > free)
                static_cast<void>(retiring_.reclaim(page_count{count - free}));
        }
    }

    /// Adds `count` free chunks, or none.
    status create_free(std::size_t count) noexcept {
        const std::size_t allowed = chunks_in(limit_);
        if (count > allowed || created() > allowed - count)
            return error{errc::limit_exceeded, verb::acquire, 0, chunk_size_ * count};
        const status outcome = free_.create(count);
        created_high_ = std::max(created_high_, created());
        return outcome;
    }

    Backend* backend_;
    const bytes chunk_size_;
    const scrub_policy scrub_;
    const bool wait_for_retiring_;

    mutable Mutex mutex_;
    bytes limit_;
    detail::free_chunks<Backend> free_;
    detail::chunk_list<Backend> used_;
    std::size_t references_ = 0; ///< to all chunks in use
    std::size_t used_high_ = 0;
    std::size_t created_high_ = 0;
    std::size_t acquired_ = 0;
    std::size_t reused_ = 0;
    std::size_t scrubbed_ = 0;
    [[no_unique_address]] retire_queue_type retiring_{*this};
};

} // namespace vtensor
