// SPDX-License-Identifier: Apache-2.0
//
// Maps the pages of the next steps on a mapper's thread while the step runs, after it has unmapped those that
// are to be given back for it, one cache after another. Which cache wants how much is said by the manager.
#pragma once

#include <vtensor/core/error.hpp>
#include <vtensor/kv/detail/cache_entry.hpp>
#include <vtensor/kv/detail/reserve_more.hpp>
#include <vtensor/memory/mapper.hpp>

#include <boost/intrusive/list.hpp>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

namespace vtensor::kv::detail {

/// Used by the manager's thread and the mapper's. Without a mapper it does nothing.
///
/// A failure fails nobody: the call that needs the pages maps them itself. Where memory is short, nothing is
/// mapped ahead until some was given back.
template <class Cache>
class mapped_ahead {
  public:
    using entry = cache_entry<Cache>;

    explicit mapped_ahead(mapper* thread) noexcept
        : mapper_{thread},
          request_{[](void* self) noexcept { static_cast<mapped_ahead*>(self)->run(); }, this} {}
    mapped_ahead(const mapped_ahead&) = delete;
    mapped_ahead& operator=(const mapped_ahead&) = delete;
    ~mapped_ahead() {
        if (mapper_ == nullptr)
            return;
        mapper_->cancel(request_);
        unwanted_.clear();
    }

    /// Whether asking has any sense now.
    [[nodiscard]] bool is_open() const noexcept {
        return mapper_ != nullptr && !stopped_.load(std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t failures() const noexcept {
        return failures_.load(std::memory_order_relaxed);
    }

    /// Whether the mapper is still at what it was asked for.
    [[nodiscard]] bool is_busy() const noexcept { return asked_.load(std::memory_order_relaxed); }

    /// So many caches may be asked for at a time. Throws where there is no memory.
    void reserve(std::size_t caches) {
        if (mapper_ == nullptr)
            return;
        const std::lock_guard lock{mutex_};
        reserve_more(wanted_, caches);
    }
    /// `which(want)` calls `want(entry, tokens)` for each cache that is to have so many tokens ready, of
    /// which there are no more than `reserve` said; then the mapper is woken, once for all of them. What was
    /// left of an earlier call is forgotten. Nothing of a cache is touched.
    template <class Which>
    void ask(Which which) noexcept {
        {
            const std::lock_guard lock{mutex_};
            forget_wanted();
            which([&](entry& one, std::size_t tokens) { wanted_.push_back({&one, tokens}); });
            asked_.store(true, std::memory_order_relaxed);
        }
        if (!mapper_->submit(request_))
            stop();
    }
    /// The cache, which nobody uses, is to keep the pages of `tokens` tokens; `ask` is to follow.
    void give_back(entry& one, std::size_t tokens) noexcept {
        const std::lock_guard lock{mutex_};
        one.goal = tokens;
        unqueue(one);
        unwanted_.push_back(one);
    }

    /// Nothing is queued or being mapped for the cache afterwards. Waits for one mapping at most.
    void exclude(entry& one) noexcept {
        if (mapper_ == nullptr)
            return;
        std::unique_lock lock{mutex_};
        changed_.wait(lock, [&] { return busy_ != &one; });
        unqueue(one);
    }

    /// Runs `work` while nothing is being mapped or given back; then the mapper goes on. Waits for one
    /// mapping at most.
    template <class Work>
    auto while_still(Work work) noexcept {
        std::unique_lock lock{mutex_};
        is_awaited_ = true;
        changed_.wait(lock, [&] { return busy_ == nullptr; });
        is_awaited_ = false;
        const auto outcome = work(); // the lock keeps the mapper from what comes next
        lock.unlock();
        changed_.notify_all();
        return outcome;
    }

    /// Nothing is mapped ahead or given back, from the end of this call until `open`.
    void close() noexcept {
        if (mapper_ == nullptr)
            return;
        std::unique_lock lock{mutex_};
        stopped_.store(true, std::memory_order_relaxed);
        forget_wanted();
        changed_.wait(lock, [&] { return busy_ == nullptr; });
    }
    /// What was to give pages back keeps them.
    void forget_unwanted() noexcept {
        const std::lock_guard lock{mutex_};
        unwanted_.clear();
    }
    /// Nothing more is begun until `open`.
    void stop() noexcept { stopped_.store(true, std::memory_order_relaxed); }
    void open() noexcept { stopped_.store(false, std::memory_order_relaxed); }

  private:
    using hook = boost::intrusive::list_base_hook<boost::intrusive::tag<by_goal>,
                                                  boost::intrusive::link_mode<boost::intrusive::safe_link>>;

    using list_type = boost::intrusive::list<entry, boost::intrusive::base_hook<hook>>;

    struct want {
        entry* of = nullptr; ///< null: withdrawn
        std::size_t tokens = 0;
        bool gives_back = false;
    };

    [[nodiscard]] static bool is_queued(const entry& one) noexcept {
        return static_cast<const hook&>(one).is_linked();
    }

    void forget_wanted() noexcept {
        wanted_.clear();
        served_ = 0;
    }
    void unqueue(entry& one) noexcept {
        if (is_queued(one))
            unwanted_.erase(unwanted_.iterator_to(one));
        for (want& other : std::span{wanted_}.subspan(served_)) {
            if (other.of == &one)
                other.of = nullptr;
        }
    }
    /// What is to be done next, first what gives pages back; nothing where all is done.
    [[nodiscard]] want take_next() noexcept {
        if (!unwanted_.empty()) {
            entry& first = unwanted_.front();
            unwanted_.pop_front();
            return {&first, first.goal, true};
        }
        while (served_ < wanted_.size()) {
            const want next = wanted_[served_++];
            if (next.of != nullptr)
                return next;
        }
        return {};
    }

    /// On the mapper's thread.
    void run() noexcept {
        std::unique_lock lock{mutex_};
        for (;;) {
            changed_.wait(lock, [&] { return !is_awaited_; });
            if (stopped_.load(std::memory_order_relaxed))
                break;
            const auto [of, goal, gives] = take_next();
            if (of == nullptr)
                break;
            entry& next = *of;
            busy_ = of;
            lock.unlock();
            const status outcome = gives ? next.cache.try_trim(goal) : next.cache.try_prepare(goal);
            lock.lock();
            busy_ = nullptr;
            if (gives && !outcome && !is_queued(next)) { // what it has left is not forgotten
                unwanted_.push_back(next);
                changed_.notify_all();
                break;
            }
            if (!gives && is_shortage(outcome.code())) {
                failures_.fetch_add(1, std::memory_order_relaxed);
                stop();
            }
            changed_.notify_all();
        }
        asked_.store(false, std::memory_order_relaxed);
    }

    mapper* mapper_;
    mapper::request request_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<want> wanted_; ///< running; guarded by `mutex_`
    std::size_t served_ = 0;   ///< of these, those done or under way
    list_type unwanted_;       ///< not running; guarded by `mutex_`
    entry* busy_ = nullptr;    ///< guarded by `mutex_`
    bool is_awaited_ = false;  ///< nothing new is begun meanwhile; guarded by `mutex_`
    std::atomic<bool> stopped_{false};
    std::atomic<bool> asked_{false};
    std::atomic<std::uint64_t> failures_{0};
};

} // namespace vtensor::kv::detail
