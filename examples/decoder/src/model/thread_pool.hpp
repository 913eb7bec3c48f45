// SPDX-License-Identifier: Apache-2.0
//
// The executor that the decoder hands to attention and to its products: a few threads that share numbered
// tasks. Which thread runs a task is chance; what a task computes never depends on it, so neither do results.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace decoder {

/// Runs tasks on `threads` threads, the caller's included. One caller at a time; tasks must not throw and
/// must not call the pool.
class thread_pool {
  public:
    /// At least one thread: the caller's.
    explicit thread_pool(std::size_t threads);
    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;
    ~thread_pool();

    [[nodiscard]] std::size_t threads() const noexcept { return workers_.size() + 1; }

    /// Runs task(0) … task(tasks - 1), each once, and returns when all are done. At most 2^32 - 1 tasks.
    template <class Task>
    void operator()(std::size_t tasks, Task&& task) {
        using plain_task = std::remove_reference_t<Task>;
        run(
            tasks, [](void* state, std::size_t index) { (*static_cast<plain_task*>(state))(index); },
            const_cast<void*>(static_cast<const void*>(std::addressof(task))));
    }

  private:
    using call_type = void (*)(void*, std::size_t);

    void run(std::size_t tasks, call_type call, void* state);
    void work() noexcept;
    bool run_one() noexcept;

    // The ticket holds the number of the job above and the tasks nobody has taken below, in one word: whoever
    // lowers it owns a task of exactly that job, and the job cannot end, nor `call_` and `state_` change,
    // before that task is done.
    std::atomic<std::uint64_t> ticket_{0};
    std::atomic<std::uint32_t> unfinished_{0};
    std::atomic<call_type> call_{nullptr};
    std::atomic<void*> state_{nullptr};
    std::atomic<bool> stopping_{false};
    std::vector<std::thread> workers_;
};

static_assert(vtensor::task_executor<thread_pool>);

} // namespace decoder
