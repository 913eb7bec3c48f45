// SPDX-License-Identifier: Apache-2.0
//
// Maps the pages of the next steps on a mapper's thread while the step runs, after it has unmapped those that
// are to be given back for it, one cache after another. The manager says which caches run and when it is
// time; how much each of them wants is found out on that thread.
#pragma once

#include <vtensor/core/error.hpp>
#include <vtensor/kv/detail/cache_entry.hpp>
#include <vtensor/memory/mapper.hpp>

#include <boost/intrusive/list.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace vtensor::kv::detail {

/// Used by the manager's thread and the mapper's. Without a mapper it does nothing.
///
/// A failure fails nobody: the call that needs the pages maps them itself. Where memory is short, nothing is
/// mapped ahead until some was given back.
template <class Cache>
class mapped_ahead {
  public:
    using entry = cache_entry<Cache>;

    /// A cache is to have pages for `ahead` tokens more than it has, but for no more than `most`.
    mapped_ahead(mapper* thread, std::size_t ahead, std::size_t most) noexcept
        : mapper_{thread},
          ahead_{ahead},
          most_{most},
          request_{[](void* self) noexcept { static_cast<mapped_ahead*>(self)->run(); }, this} {}
    mapped_ahead(const mapped_ahead&) = delete;
    mapped_ahead& operator=(const mapped_ahead&) = delete;
    ~mapped_ahead() {
        if (mapper_ == nullptr)
            return;
        mapper_->cancel(request_);
        running_.clear();
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

    /// A sequence runs on the cache, until `exclude`.
    void include(entry& one) noexcept {
        if (mapper_ == nullptr)
            return;
        const std::lock_guard lock{mutex_};
        one.round = round_;
        running_.push_back(one);
    }
    /// It is time to look after the caches. Nothing of them is touched.
    void ask() noexcept {
        asked_.store(true, std::memory_order_relaxed);
        if (!mapper_->submit(request_))
            stop();
    }
    /// The cache, which nobody uses, is to keep the pages of `tokens` tokens; `ask` is to follow.
    void give_back(entry& one, std::size_t tokens) noexcept {
        const std::lock_guard lock{mutex_};
        one.goal = tokens;
        unlink(one);
        unwanted_.push_back(one);
    }

    /// Nothing is being mapped for the cache, nor will be. Waits for one mapping at most.
    void exclude(entry& one) noexcept {
        if (mapper_ == nullptr)
            return;
        std::unique_lock lock{mutex_};
        changed_.wait(lock, [&] { return busy_ != &one; });
        unlink(one);
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

    /// Nothing is mapped ahead or given back, from the end of this call until `open`, nor of what was asked
    /// for before.
    void close() noexcept {
        if (mapper_ == nullptr)
            return;
        std::unique_lock lock{mutex_};
        stopped_.store(true, std::memory_order_relaxed);
        asked_.store(false, std::memory_order_relaxed);
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
    using hook = cache_entry_ahead_hook;
    using list_type = boost::intrusive::list<entry, boost::intrusive::base_hook<hook>,
                                             boost::intrusive::constant_time_size<false>>;

    struct task {
        entry* of = nullptr; ///< null: there is nothing to do
        std::size_t tokens = 0;
        bool gives_back = false;
    };

    [[nodiscard]] static bool is_linked(const entry& one) noexcept {
        return static_cast<const hook&>(one).is_linked();
    }
    static void unlink(entry& one) noexcept {
        if (is_linked(one))
            static_cast<hook&>(one).unlink();
    }
    /// First what gives pages back, then each running cache that has not had its turn in this round.
    [[nodiscard]] task take_next() noexcept {
        if (!unwanted_.empty()) {
            entry& first = unwanted_.front();
            unwanted_.pop_front();
            return {&first, first.goal, true};
        }
        while (!running_.empty() && running_.front().round != round_) {
            entry& next = running_.front();
            running_.splice(running_.end(), running_, running_.begin());
            next.round = round_;
            const std::size_t goal = std::min(next.cache.tokens() + ahead_, most_);
            if (goal > next.cache.ready())
                return {&next, goal, false};
        }
        return {};
    }

    /// On the mapper's thread.
    void run() noexcept {
        std::unique_lock lock{mutex_};
        ++round_;
        for (;;) {
            changed_.wait(lock, [&] { return !is_awaited_; });
            if (!is_open() || !is_busy())
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
            if (gives && !outcome && !is_linked(next)) { // what it has left is not forgotten
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
    std::size_t ahead_; ///< tokens
    std::size_t most_;  ///< tokens
    mapper::request request_;
    std::mutex mutex_;
    std::condition_variable changed_;
    list_type running_;       ///< those whose turn is longest ago first; guarded by `mutex_`
    std::uint64_t round_ = 0; ///< of turns; guarded by `mutex_`
    list_type unwanted_;      ///< not running; guarded by `mutex_`
    entry* busy_ = nullptr;   ///< guarded by `mutex_`
    bool is_awaited_ = false; ///< nothing new is begun meanwhile; guarded by `mutex_`
    std::atomic<bool> stopped_{false};
    std::atomic<bool> asked_{false};
    std::atomic<std::uint64_t> failures_{0};
};

} // namespace vtensor::kv::detail
