// SPDX-License-Identifier: Apache-2.0
//
// A mapped range whose next pages a mapper thread maps before they are needed. The owner's thread finds them
// by one atomic load; it maps by itself, and waits for the mapper if need be, only when it outruns it.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/grown_range.hpp>
#include <vtensor/memory/mapper.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <utility>

namespace vtensor {

/// Used by one owner thread and the mapper thread. The pool and the mapper must outlive it.
///
/// A failure of the mapper thread never fails an operation that does not need its pages. The operation that
/// does need them maps by itself and returns its own outcome; until a mapping succeeds, `look_ahead_status()`
/// tells of the failure.
template <class Pool, look_ahead_policy Growth>
class look_ahead_range {
  public:
    using pool_type = Pool;

    [[nodiscard]] static result<std::unique_ptr<look_ahead_range>>
    create(Pool& pool, page_count limit, owner_id owner, const Growth& growth, mapper& thread) noexcept {
        auto range = page_range<Pool>::create(pool, limit, owner);
        if (!range)
            return range.error();
        std::unique_ptr<look_ahead_range> made{new (std::nothrow)
                                                   look_ahead_range{*std::move(range), growth, thread}};
        if (made == nullptr)
            return error{errc::out_of_memory, verb::construct, 0, bytes{sizeof(look_ahead_range)}};
        return made;
    }
    look_ahead_range(const look_ahead_range&) = delete;
    look_ahead_range& operator=(const look_ahead_range&) = delete;
    /// Waits for the mapper where it is at work here.
    ~look_ahead_range() { mapper_->cancel(request_); }

    /// At least `needed` pages are accessible afterwards, or nothing changed; and the pages after them are on
    /// their way.
    [[nodiscard]] status require(page_count needed) noexcept {
        if (needed > accessible()) {
            const std::lock_guard lock{mutex_};
            const status outcome = detail::grow_by_policy(range_, growth_, needed);
            publish(outcome);
            if (!outcome)
                return outcome;
        }
        ask_ahead(needed);
        return {};
    }
    /// Only `needed` pages are in use: unmaps what the policy does not keep, or changes nothing.
    [[nodiscard]] status settle(page_count needed) noexcept {
        call_off();
        const std::lock_guard lock{mutex_};
        return published(range_.shrink_to(detail::kept_of(range_, growth_, needed)));
    }
    /// Unmaps everything beyond `needed` pages, or changes nothing.
    [[nodiscard]] status trim(page_count needed) noexcept {
        call_off();
        const std::lock_guard lock{mutex_};
        return published(range_.shrink_to(needed));
    }
    /// The same two, but what is given up retires behind the work queued on the stream.
    [[nodiscard]] status
    settle(page_count needed,
           const detail::stream_of<Pool>& stream) noexcept requires detail::has_streams<Pool> {
        call_off();
        const std::lock_guard lock{mutex_};
        return published(range_.retire_to(detail::kept_of(range_, growth_, needed), stream));
    }
    [[nodiscard]] status
    trim(page_count needed,
         const detail::stream_of<Pool>& stream) noexcept requires detail::has_streams<Pool> {
        call_off();
        const std::lock_guard lock{mutex_};
        return published(range_.retire_to(needed, stream));
    }

    // ---- pages that are shared: see shared_prefix.hpp and writable_pages.hpp ----

    /// An empty range of the same pool, policy, owner and mapper.
    [[nodiscard]] result<std::unique_ptr<look_ahead_range>> create_alike() const noexcept {
        return create(range_.pool(), range_.limit(), range_.owner(), growth_, *mapper_);
    }
    /// As `mapped_range::map_shared`.
    [[nodiscard]] status map_shared(std::span<const typename Pool::chunk> shared) noexcept {
        call_off();
        const std::lock_guard lock{mutex_};
        return published(range_.map_shared(shared));
    }
    /// What `visit` returns for the page map; `plan` for one that stays as it is until `exchange`.
    template <class Visit>
    [[nodiscard]] auto with_pages(Visit visit) const noexcept {
        const std::lock_guard lock{mutex_};
        return visit(range_.pages());
    }
    template <class Visit>
    [[nodiscard]] auto plan(Visit visit) noexcept {
        call_off();
        return with_pages(visit);
    }
    /// Behind the last page that is read-only. Without the lock: the mapper thread never makes a page
    /// read-only, nor gives one up that is.
    [[nodiscard]] page_count read_only_end() const noexcept { return range_.pages().read_only_end(); }

    // ---- pages that change: see page_exchange.hpp ----

    /// Afterwards `needed` pages are in use, and until then those below `sources` are read: what the policy
    /// keeps besides them stays mapped.
    [[nodiscard]] status prepare_exchange(page_exchange<typename Pool::backend_type>& moved,
                                          std::span<const defrag::block_move> moves, std::size_t block_pages,
                                          page_count needed, page_count sources) noexcept {
        call_off();
        const std::lock_guard lock{mutex_};
        return moved.prepare(range_.pages(), moves, block_pages,
                             std::max(detail::target_of(range_, growth_, needed), sources));
    }
    [[nodiscard]] status exchange(page_exchange<typename Pool::backend_type>& moved,
                                  [[maybe_unused]] const detail::stream_of<Pool>* stream) noexcept {
        VTENSOR_ASSERT(goal_.load(std::memory_order_relaxed) == 0); // nothing was mapped ahead meanwhile
        const std::lock_guard lock{mutex_};
        if constexpr (detail::has_streams<Pool>)
            return published(range_.exchange(moved, stream));
        else
            return published(range_.exchange(moved));
    }
    void undo_exchange(page_exchange<typename Pool::backend_type>& moved,
                       [[maybe_unused]] const detail::stream_of<Pool>* stream) noexcept {
        const std::lock_guard lock{mutex_};
        if constexpr (detail::has_streams<Pool>)
            range_.undo_exchange(moved, stream);
        else
            range_.undo_exchange(moved);
        static_cast<void>(published(status{}));
    }
    void finish_exchange(const page_exchange<typename Pool::backend_type>& moved) noexcept {
        const std::lock_guard lock{mutex_};
        range_.finish_exchange(moved);
    }

    /// What kept the mapper thread from mapping ahead the last time it was asked; ok where nothing did.
    [[nodiscard]] status look_ahead_status() const noexcept {
        const std::lock_guard lock{mutex_};
        return last_;
    }

    [[nodiscard]] Pool& pool() const noexcept { return range_.pool(); }
    [[nodiscard]] owner_id owner() const noexcept { return range_.owner(); }
    [[nodiscard]] address start() const noexcept { return range_.start(); }
    [[nodiscard]] bytes page_size() const noexcept { return range_.page_size(); }
    [[nodiscard]] bytes reserved_bytes() const noexcept { return range_.reserved_bytes(); }
    [[nodiscard]] page_count accessible() const noexcept {
        return page_count{accessible_.load(std::memory_order_acquire)};
    }
    [[nodiscard]] page_count mapped() const noexcept {
        const std::lock_guard lock{mutex_};
        return range_.mapped();
    }
    [[nodiscard]] page_count retiring() const noexcept requires detail::has_streams<Pool> {
        const std::lock_guard lock{mutex_};
        return range_.retiring();
    }
    [[nodiscard]] bool verify() const noexcept {
        const std::lock_guard lock{mutex_};
        return range_.verify() && range_.accessible() == accessible();
    }

  private:
    look_ahead_range(page_range<Pool>&& range, const Growth& growth, mapper& thread) noexcept
        : range_{std::move(range)},
          growth_{growth},
          mapper_{&thread},
          request_{[](void* self) noexcept { static_cast<look_ahead_range*>(self)->map_ahead(); }, this} {}

    /// Asks the mapper for more, once for each new goal: a goal that failed is not tried again until it
    /// rises.
    void ask_ahead(page_count needed) noexcept {
        const page_count limit = range_.limit();
        const page_count goal = std::min(growth_.ahead(growth_state{accessible(), needed, limit}), limit);
        if (goal <= accessible() || goal.count() <= goal_.load(std::memory_order_relaxed))
            return;
        goal_.store(goal.count(), std::memory_order_relaxed);
        if (const status outcome = mapper_->submit(request_); !outcome) {
            const std::lock_guard lock{mutex_};
            last_ = outcome;
        }
    }

    /// On the mapper thread.
    void map_ahead() noexcept {
        const std::lock_guard lock{mutex_};
        page_count goal{goal_.load(std::memory_order_relaxed)};
        if constexpr (detail::has_streams<Pool>)
            goal = std::min(goal, range_.grows_without_waiting());
        publish(range_.grow_to(goal));
    }

    /// Nothing is queued or running for this range afterwards.
    void call_off() noexcept {
        mapper_->cancel(request_);
        goal_.store(0, std::memory_order_relaxed);
    }

    /// What a change of the range's pages ended with, after the owner's thread was told of them.
    status published(const status& outcome) noexcept {
        accessible_.store(range_.accessible().count(), std::memory_order_release);
        return outcome;
    }
    void publish(const status& grown) noexcept { last_ = published(grown); }

    mutable std::mutex mutex_; ///< guards `range_` and `last_`
    page_range<Pool> range_;
    status last_;
    const Growth growth_;
    mapper* mapper_;
    mapper::request request_;
    std::atomic<std::size_t> accessible_{0}; ///< what `range_` has, for the owner's thread without the lock
    std::atomic<std::size_t> goal_{0};       ///< how many pages the mapper was last asked for
};

} // namespace vtensor
