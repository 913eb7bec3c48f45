// SPDX-License-Identifier: Apache-2.0
//
// The thread that maps ahead: it takes requests from a queue and runs them one after another, while the
// caller computes. One thread on purpose: drivers hold one lock, and more threads make mapping slower. It
// knows nothing of tensors and allocates nothing after its construction.
#pragma once

#include <vtensor/core/error.hpp>

#include <boost/intrusive/list.hpp>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace vtensor {

/// Runs requests in the order of submission on a thread of its own. Each request is in the queue at most
/// once, so the queue is never longer than there are requests: it is bounded by the tensors that use it.
/// Thread-safe. Neither copied nor moved; the requests must be cancelled or gone before it.
class mapper {
  public:
    /// Work that is kept by whoever wants it done. `run` is called on the mapper thread.
    class request : public boost::intrusive::list_base_hook<> {
      public:
        using function = void (*)(void* context) noexcept;
        request(function run, void* context) noexcept : run_{run}, context_{context} {}
        request(const request&) = delete;
        request& operator=(const request&) = delete;

      private:
        friend class mapper;
        function run_;
        void* context_;
    };

    /// Starts the thread, which a request wakes. Waking a thread costs whoever submits some microseconds, on
    /// virtual machines ten and more: with `look_every` more than 0 nobody wakes it, and it looks by itself
    /// for requests so often. Throws `backend_failure` where the system gives no thread.
    explicit mapper(std::chrono::microseconds look_every = {}) : look_every_{look_every} {
        try {
            thread_ = std::thread{[this] { work(); }};
        } catch (const std::system_error& refused) {
            throw_error(error{errc::native_failure, verb::construct, refused.code().value(), bytes{}});
        }
    }
    mapper(const mapper&) = delete;
    mapper& operator=(const mapper&) = delete;

    /// Finishes the request that is running, drops the others, joins the thread.
    ~mapper() {
        {
            const std::lock_guard lock{mutex_};
            stopping_ = true;
            queue_.clear();
        }
        changed_.notify_all();
        thread_.join();
    }

    /// Queues the request; one that is queued already stays where it is, one that is running runs again.
    /// `errc::shut_down` once the destructor has begun.
    status submit(request& wanted) noexcept {
        {
            const std::lock_guard lock{mutex_};
            if (stopping_)
                return error{errc::shut_down, verb::grow, 0, bytes{}};
            if (wanted.is_linked())
                return {};
            queue_.push_back(wanted);
        }
        if (!looks_by_itself())
            changed_.notify_all();
        return {};
    }

    /// Takes the request out of the queue and waits while it runs: afterwards it is neither queued nor
    /// running. Not to be called from a request.
    void cancel(request& unwanted) noexcept {
        std::unique_lock lock{mutex_};
        if (unwanted.is_linked())
            queue_.erase(queue_.iterator_to(unwanted));
        changed_.wait(lock, [&] { return running_ != &unwanted; });
    }

    /// Waits until nothing is queued or running.
    void drain() noexcept {
        std::unique_lock lock{mutex_};
        changed_.wait(lock, [&] { return queue_.empty() && running_ == nullptr; });
    }

  private:
    [[nodiscard]] bool looks_by_itself() const noexcept { return look_every_ > look_every_.zero(); }
    void work() noexcept {
        std::unique_lock lock{mutex_};
        for (;;) {
            const auto has_work = [&] { return stopping_ || !queue_.empty(); };
            if (!looks_by_itself())
                changed_.wait(lock, has_work);
            else
                while (!has_work())
                    changed_.wait_for(lock, look_every_);
            if (stopping_)
                return;
            request& next = queue_.front();
            queue_.pop_front();
            running_ = &next;
            lock.unlock();
            next.run_(next.context_);
            lock.lock();
            running_ = nullptr;
            changed_.notify_all();
        }
    }

    const std::chrono::microseconds look_every_;
    std::mutex mutex_;
    std::condition_variable changed_;
    boost::intrusive::list<request> queue_;
    request* running_ = nullptr;
    bool stopping_ = false;
    std::thread thread_;
};

} // namespace vtensor
