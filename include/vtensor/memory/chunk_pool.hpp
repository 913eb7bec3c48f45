// SPDX-License-Identifier: Apache-2.0
//
// Owns physical memory: chunks of one size, created when needed, kept for reuse, counted by reference. It
// never reserves an address and never maps. (The pSet of the vTensor paper, arXiv 2407.15309.)
#pragma once

#include <vtensor/core/concepts.hpp>
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

/// When a chunk is zeroed before a tensor sees it.
enum class scrub_policy : std::uint8_t {
    never,          ///< a chunk may show what its last owner wrote
    between_owners, ///< zeroed when it passes from one owner to another
};

/// How to make a `chunk_pool`.
struct chunk_pool_options {
    bytes chunk_size{}; ///< a multiple of the backend's granularity; 0 takes the granularity itself
    bytes limit{};      ///< the most that may be created, free chunks included; 0 sets none
    scrub_policy scrub = scrub_policy::never;
    /// A growth that finds memory short waits for retiring pages before it says so. Without streams there are
    /// none.
    bool wait_for_retiring = false;
};

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

/// What a pool holds. `created` = `in_use` + `free`.
struct chunk_pool_stats {
    bytes chunk_size{};
    bytes limit{};          ///< 0: none
    bytes created{};        ///< physical memory taken from the backend
    bytes in_use{};         ///< of it, held by at least one reference
    bytes free{};           ///< of it, waiting for reuse
    bytes high_watermark{}; ///< the most that was ever in use at once
    bytes created_high_watermark{};
    std::size_t acquired = 0; ///< chunks handed out since the pool was made
    std::size_t reused = 0;   ///< of them, without asking the backend
    std::size_t scrubbed = 0; ///< of them, zeroed for a new owner
};

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
        free_.clear_and_dispose([this](node* entry) { destroy_at_last(entry); });
        used_.clear_and_dispose([this](node* entry) { destroy_at_last(entry); });
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
            node& entry = free_.front();
            free_.pop_front();
            used_.push_front(entry);
            entry.references = 1;
            entry.owner = owner;
            taken = chunk{entry};
        }
        created = missing;
        acquired_ += chunks.size();
        reused_ += reused;
        used_high_ = std::max(used_high_, used_.size());
        return {};
    }

    /// Gives up to `count` free chunks back to the backend, those that were created last: what an operation
    /// that failed later created and released. One that the backend refuses twice stays free.
    void discard(std::size_t count) noexcept {
        const std::lock_guard lock{mutex_};
        for (; count > 0 && !free_.empty() && destroy(free_, free_.back(), 2); --count) {
        }
    }

    /// One more reference to a chunk that is in use.
    void retain(chunk shared) noexcept {
        const std::lock_guard lock{mutex_};
        VTENSOR_ASSERT(shared && shared.entry_->references > 0);
        ++shared.entry_->references;
    }

    /// One reference less; the last one makes the chunk free for reuse. Never fails and never calls the
    /// backend.
    void release(chunk given) noexcept {
        const std::lock_guard lock{mutex_};
        VTENSOR_ASSERT(given && given.entry_->references > 0);
        node& entry = *given.entry_;
        if (--entry.references > 0)
            return;
        used_.erase(used_.iterator_to(entry));
        free_.push_front(entry);
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
        return destroy_free(free_.size() > keep ? free_.size() - keep : 0, verb::trim);
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
        if (const status outcome = destroy_free(excess, verb::resize_limit); !outcome)
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
                scrubbed_};
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

    /// Checks the pool's own book-keeping, O(chunks): a chunk in use has a reference, a free one none.
    [[nodiscard]] bool verify() const noexcept {
        const std::lock_guard lock{mutex_};
        const bool used =
            std::all_of(used_.begin(), used_.end(), [](const node& entry) { return entry.references > 0; });
        const bool free =
            std::all_of(free_.begin(), free_.end(), [](const node& entry) { return entry.references == 0; });
        return used && free && (limit_ == bytes{0} || chunk_size_ * created() <= limit_);
    }

  private:
    using node = detail::chunk_node<Backend>;
    using node_list = detail::chunk_list<Backend>;
    struct validated {};

    chunk_pool(Backend& backend, const chunk_pool_options& options, validated) noexcept
        : backend_{&backend},
          chunk_size_{options.chunk_size == bytes{0} ? backend.granularity() : options.chunk_size},
          scrub_{options.scrub},
          wait_for_retiring_{options.wait_for_retiring},
          limit_{options.limit} {}

    static status check(const Backend& backend, const chunk_pool_options& options) noexcept {
        if (options.chunk_size % backend.granularity() != bytes{0})
            return error{errc::misaligned, verb::construct, 0, options.chunk_size};
        if (options.scrub != scrub_policy::never && !can_scrub(backend))
            return error{errc::unsupported, verb::construct, 0, bytes{0}};
        return {};
    }
    static bool can_scrub(const Backend& backend) noexcept {
        if constexpr (host_visible_backend<Backend>)
            return backend.host_visible();
        return false;
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
        node_list fresh;
        for (std::size_t index = 0; index < count; ++index) {
            if (const status outcome = create_one(fresh); !outcome) {
                // What cannot even be given back is kept as free: counted, reusable, not lost.
                while (!fresh.empty() && destroy(fresh, fresh.front(), 2)) {
                }
                free_.splice(free_.end(), fresh);
                created_high_ = std::max(created_high_, created());
                return outcome;
            }
        }
        free_.splice(free_.end(), fresh);
        created_high_ = std::max(created_high_, created());
        return {};
    }

    status create_one(node_list& fresh) noexcept {
        std::unique_ptr<node> entry{new (std::nothrow) node};
        if (entry == nullptr)
            return error{errc::out_of_memory, verb::acquire, 0, bytes{sizeof(node)}};
        const auto handle = backend_->create(chunk_size_);
        if (!handle)
            return handle.error();
        entry->handle = *handle;
        fresh.push_back(*entry.release());
        return {};
    }

    /// Asks the backend up to `tries` times to take a chunk back.
    status try_destroy(const node& entry, int tries) noexcept {
        status outcome = backend_->destroy(entry.handle);
        while (!outcome && --tries > 0)
            outcome = backend_->destroy(entry.handle);
        return outcome;
    }

    /// Destroys a chunk of a list; where the backend refuses every time it stays there.
    status destroy(node_list& list, node& entry, int tries) noexcept {
        const status outcome = try_destroy(entry, tries);
        if (outcome)
            list.erase_and_dispose(list.iterator_to(entry), [](node* gone) { delete gone; });
        return outcome;
    }

    status destroy_free(std::size_t count, verb where) noexcept {
        for (; count > 0; --count) {
            if (const status outcome = destroy(free_, free_.front(), 1); !outcome)
                return error{outcome.code(), where, outcome.error().native, chunk_size_};
        }
        return {};
    }

    void destroy_at_last(node* entry) noexcept {
        static_cast<void>(try_destroy(*entry, 2));
        delete entry;
    }

    Backend* backend_;
    const bytes chunk_size_;
    const scrub_policy scrub_;
    const bool wait_for_retiring_;

    mutable Mutex mutex_;
    bytes limit_;
    node_list free_;
    node_list used_;
    std::size_t used_high_ = 0;
    std::size_t created_high_ = 0;
    std::size_t acquired_ = 0;
    std::size_t reused_ = 0;
    std::size_t scrubbed_ = 0;
    [[no_unique_address]] retire_queue_type retiring_{*this};
};

} // namespace vtensor
