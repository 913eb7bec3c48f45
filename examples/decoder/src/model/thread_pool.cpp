// SPDX-License-Identifier: Apache-2.0
#include "model/thread_pool.hpp"

#include <limits>

namespace decoder {

namespace {

constexpr std::uint64_t one_job = std::uint64_t{1} << 32;
constexpr int spins_before_sleep = 2000; // some ten microseconds: longer than the pause between two products

std::uint32_t tasks_left(std::uint64_t ticket) { return static_cast<std::uint32_t>(ticket); }

void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
}

/// Returns when `value` is no longer `old`: soon by looking, later by sleeping.
template <class T>
void await_change(const std::atomic<T>& value, T old) noexcept {
    for (int spin = 0; spin < spins_before_sleep; ++spin) {
        if (value.load(std::memory_order_acquire) != old)
            return;
        pause();
    }
    value.wait(old, std::memory_order_acquire);
}

} // namespace

thread_pool::thread_pool(std::size_t threads) {
    for (std::size_t i = 1; i < threads; ++i)
        workers_.emplace_back([this] { work(); });
}

thread_pool::~thread_pool() {
    stopping_.store(true);
    ticket_.fetch_add(one_job);
    ticket_.notify_all();
    for (std::thread& worker : workers_)
        worker.join();
}

void thread_pool::run(std::size_t tasks, call_type call, void* state) {
    VTENSOR_ASSERT(tasks <= std::numeric_limits<std::uint32_t>::max());
    if (workers_.empty() || tasks <= 1) {
        for (std::size_t task = 0; task < tasks; ++task)
            call(state, task);
        return;
    }
    call_.store(call, std::memory_order_relaxed);
    state_.store(state, std::memory_order_relaxed);
    unfinished_.store(static_cast<std::uint32_t>(tasks), std::memory_order_relaxed);
    const std::uint64_t job = (ticket_.load(std::memory_order_relaxed) & ~(one_job - 1)) + one_job;
    ticket_.store(job | tasks, std::memory_order_release);
    ticket_.notify_all();

    while (run_one())
        ;
    for (auto left = unfinished_.load(std::memory_order_acquire); left != 0;
         left = unfinished_.load(std::memory_order_acquire))
        await_change(unfinished_, left);
}

/// Takes and runs one task of the current job; false where none is left.
bool thread_pool::run_one() noexcept {
    std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
    while (tasks_left(ticket) != 0) {
        const call_type call = call_.load(std::memory_order_relaxed);
        void* const state = state_.load(std::memory_order_relaxed);
        if (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel,
                                           std::memory_order_acquire))
            continue;
        call(state, tasks_left(ticket) - 1);
        if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1)
            unfinished_.notify_all();
        return true;
    }
    return false;
}

void thread_pool::work() noexcept {
    while (!stopping_.load()) {
        if (run_one())
            continue;
        const std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
        if (tasks_left(ticket) == 0 && !stopping_.load())
            await_change(ticket_, ticket);
    }
}

} // namespace decoder
