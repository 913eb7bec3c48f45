// SPDX-License-Identifier: Apache-2.0
//
// Streams, events, copies and fills of a simulated machine, and how a test holds work up and lets it go. Work
// that touches what its device may not touch is not carried out; the machine is then broken as a real device
// would be: every further call says so, until the test forgives.
#pragma once

#include <support/simulated_driver/sharing_verbs.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace vtensor::testing::simulated {

class stream_verbs : public sharing_verbs {
  public:
    // ---- work ----

    int copy(std::uintptr_t to, std::uintptr_t from, std::size_t size, std::uint64_t stream) noexcept {
        const call made{.what = entry::memcpy_async, .where = to, .size = size, .object = stream};
        return perform(made, needs_for(stream), [&](auto& lock) {
            const auto on = stream_of(stream);
            if (on == nullptr)
                return code::invalid_handle;
            if (size != 0 && (to == 0 || from == 0))
                return code::invalid_value;
            operation work{.reads = {{from, size}}, .writes = {{to, size}}};
            if (size != 0) { // without bytes the addresses may be null
                work.body = [to, from, size] {
                    std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), size);
                };
            }
            return submit(lock, on, std::move(work));
        });
    }
    int fill(std::uintptr_t to, unsigned char value, std::size_t size, std::uint64_t stream) noexcept {
        const call made{.what = entry::memset_async, .where = to, .size = size, .object = stream};
        return perform(made, needs_for(stream), [&](auto& lock) {
            const auto on = stream_of(stream);
            if (on == nullptr)
                return code::invalid_handle;
            if (size != 0 && to == 0)
                return code::invalid_value;
            operation work{.writes = {{to, size}}};
            if (size != 0)
                work.body = [to, value, size] { std::memset(reinterpret_cast<void*>(to), value, size); };
            return submit(lock, on, std::move(work));
        });
    }

    // ---- streams ----

    int stream_create(std::uint64_t* stream, unsigned flags) noexcept {
        return perform({.what = entry::stream_create}, needs::context, [&](auto&) {
            if (stream == nullptr || flags > 1)
                return code::invalid_value;
            *stream = streams_.create(acting_context(), current_device(), flags == 0)->number;
            return code::success;
        });
    }
    int stream_destroy(std::uint64_t stream) noexcept {
        return perform({.what = entry::stream_destroy, .object = stream}, needs::nothing, [&](auto&) {
            const auto found = streams_.find(stream);
            if (found == nullptr)
                return code::invalid_handle;
            streams_.destroy(found);
            return code::success;
        });
    }
    int stream_query(std::uint64_t stream) noexcept {
        return perform({.what = entry::stream_query, .object = stream}, needs_for(stream), [&](auto&) {
            const auto found = stream_of(stream);
            if (found == nullptr)
                return code::invalid_handle;
            return found->queue.empty() ? code::success : code::not_ready;
        });
    }
    int stream_synchronize(std::uint64_t stream) noexcept {
        const call made{.what = entry::stream_synchronize, .object = stream};
        return perform(made, needs_for(stream), [&](auto& lock) {
            const auto found = stream_of(stream);
            return found == nullptr ? code::invalid_handle : wait_for(lock, {found, found->enqueued});
        });
    }
    int stream_wait_event(std::uint64_t stream, std::uint64_t event, unsigned flags) noexcept {
        const call made{.what = entry::stream_wait_event, .object = stream};
        return perform(made, needs_for(stream), [&](auto& lock) {
            const auto on = stream_of(stream);
            const event_state* const found = streams_.find_event(event);
            if (on == nullptr || found == nullptr)
                return code::invalid_handle;
            if (flags != 0)
                return code::invalid_value;
            return submit(lock, on, operation{.after = {found->last}});
        });
    }

    // ---- events ----

    int event_create(std::uint64_t* event, unsigned flags) noexcept {
        return perform({.what = entry::event_create}, needs::context, [&](auto&) {
            constexpr unsigned known = 1 | 2; // waiting that blocks, no timing
            if (event == nullptr || (flags & ~known) != 0)
                return code::invalid_value;
            *event = streams_.create_event(acting_context(), current_device());
            return code::success;
        });
    }
    int event_destroy(std::uint64_t event) noexcept {
        return perform({.what = entry::event_destroy, .object = event}, needs::nothing, [&](auto&) {
            return streams_.destroy_event(event) ? code::success : code::invalid_handle;
        });
    }
    int event_record(std::uint64_t event, std::uint64_t stream) noexcept {
        const call made{.what = entry::event_record, .object = event};
        return perform(made, needs_for(stream), [&](auto& lock) {
            const auto on = stream_of(stream);
            event_state* const found = streams_.find_event(event);
            if (on == nullptr || found == nullptr || found->context != on->context)
                return code::invalid_handle;
            streams_.enqueue(on, {});
            found->last = {on, on->enqueued};
            carry_on(lock);
            return code::success;
        });
    }
    /// An event that was never recorded counts as reached.
    int event_query(std::uint64_t event) noexcept {
        return perform({.what = entry::event_query, .object = event}, needs::nothing, [&](auto&) {
            const event_state* const found = streams_.find_event(event);
            if (found == nullptr)
                return code::invalid_handle;
            return found->last.reached() ? code::success : code::not_ready;
        });
    }
    int event_synchronize(std::uint64_t event) noexcept {
        const call made{.what = entry::event_synchronize, .object = event};
        return perform(made, needs::nothing, [&](auto& lock) {
            const event_state* const found = streams_.find_event(event);
            return found == nullptr ? code::invalid_handle : wait_for(lock, found->last);
        });
    }

    // ---- what a test does with work; `stream` is a CUstream or hipStream_t ----

    /// Queued work of the stream waits from now on; a kernel that runs goes on.
    void stall(const void* stream) {
        const std::lock_guard lock{mutex_};
        known_stream(stream)->stalled = true;
    }
    /// It goes on. With `execution::at_once` what can be done is done when this returns.
    void resume(const void* stream) {
        std::unique_lock lock{mutex_};
        known_stream(stream)->stalled = false;
        carry_on(lock);
    }
    void resume_all() {
        std::unique_lock lock{mutex_};
        for (const auto& one : streams_.streams())
            one->stalled = false;
        carry_on(lock);
    }
    /// Carries out up to that many operations of a stalled stream. How many it did: fewer where the next one
    /// waits for another stream.
    std::size_t step(const void* stream, std::size_t operations = 1) {
        std::unique_lock lock{mutex_};
        const auto on = known_stream(stream);
        std::size_t done = 0;
        for (; done < operations && stream_set::is_ready(*on); ++done)
            carry_out(lock, on);
        carry_on(lock); // others may have waited for it
        return done;
    }
    /// Queues a kernel that touches these ranges. `body` runs without the machine's lock, in another thread
    /// with `execution::worker`; it may be empty.
    int launch(const void* stream, std::vector<touched> reads, std::vector<touched> writes,
               std::function<void()> body = {}) {
        std::unique_lock lock{mutex_};
        if (poisoned_)
            return code::illegal_address;
        operation work{.reads = std::move(reads), .writes = std::move(writes), .body = std::move(body)};
        work.kernel = true;
        return submit(lock, known_stream(stream), std::move(work));
    }

  protected:
    using sharing_verbs::sharing_verbs;
    ~stream_verbs() { stop_worker(); }

    void stop_worker() noexcept {
        if (is_forked()) { // the thread stayed behind, perhaps with the lock
            if (worker_.joinable())
                worker_.detach();
            return;
        }
        {
            const std::lock_guard lock{mutex_};
            stopping_ = true;
        }
        changed_.notify_all();
        if (worker_.joinable())
            worker_.join();
    }

  private:
    static constexpr std::uint64_t legacy_stream = 1; ///< CU_STREAM_LEGACY, another name of stream 0

    [[nodiscard]] static needs needs_for(std::uint64_t stream) noexcept {
        return stream <= legacy_stream ? needs::context : needs::nothing;
    }
    /// Null where there is none of that number; 0 is the default stream of the current context.
    [[nodiscard]] std::shared_ptr<stream_state> stream_of(std::uint64_t number) {
        return number <= legacy_stream ? streams_.standard(acting_context(), current_device())
                                       : streams_.find(number);
    }
    [[nodiscard]] std::shared_ptr<stream_state> known_stream(const void* stream) {
        const auto number = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(stream));
        for (const auto& one : streams_.streams()) { // destroyed ones as well
            if (one->number == number && !one->standard)
                return one;
        }
        if (number <= legacy_stream && acting_context() != 0)
            return stream_of(number);
        throw std::invalid_argument{"no such stream"};
    }

    int submit(std::unique_lock<std::mutex>& lock, const std::shared_ptr<stream_state>& on, operation work) {
        streams_.enqueue(on, std::move(work));
        carry_on(lock);
        return code::success; // what goes wrong later shows at a later call
    }

    /// Lets everything go on that can.
    void carry_on(std::unique_lock<std::mutex>& lock) {
        if (options_.streams == execution::worker) {
            if (!worker_.joinable())
                worker_ = std::thread{[this] { work(); }};
            changed_.notify_all();
            return;
        }
        while (const auto on = streams_.runnable())
            carry_out(lock, on);
    }
    void work() {
        std::unique_lock lock{mutex_};
        for (;;) {
            std::shared_ptr<stream_state> on;
            changed_.wait(lock, [&] { return stopping_ || (on = streams_.runnable()) != nullptr; });
            if (stopping_)
                return;
            try {
                carry_out(lock, on);
            } catch (const std::bad_alloc&) { // of a report: the operation is still there
            }
        }
    }

    /// The stream's first operation, which is ready.
    void carry_out(std::unique_lock<std::mutex>& lock, const std::shared_ptr<stream_state>& on) {
        operation& first = on->queue.front();
        if (!poisoned_ && may_touch(*on, first) && first.body) {
            if (first.kernel) {
                on->running = true;
                lock.unlock();
                first.body();
                lock.lock();
                on->running = false;
            } else {
                first.body();
            }
        }
        streams_.completed(*on);
        changed_.notify_all();
    }
    /// Breaks the machine where the operation may not.
    bool may_touch(const stream_state& on, const operation& work) {
        for (const auto& [ranges, flags] :
             {std::pair{&work.reads, may_read}, std::pair{&work.writes, may_write}}) {
            for (const touched& range : *ranges) {
                if (addresses_.may(on.device, range.where, range.size, flags))
                    continue;
                poisoned_ = true;
                report(violation_kind::illegal_access,
                       std::string{"work of stream "} + std::to_string(on.number) +
                           (flags == may_read ? " reads " : " writes ") +
                           range_text(range.where, range.size) + " without access");
                return false;
            }
        }
        return true;
    }

    int wait_for(std::unique_lock<std::mutex>& lock, const stream_point& point) {
        const stream_point until = point; // the event may be recorded again meanwhile
        carry_on(lock);
        if (!changed_.wait_for(lock, options_.longest_wait, [&] { return until.reached(); })) {
            report(violation_kind::endless_wait,
                   "waiting for stream " + std::to_string(until.on->number) + ", which nobody lets go on");
            return code::unknown;
        }
        return poisoned_ ? code::illegal_address : code::success;
    }

    std::thread worker_;
    bool stopping_ = false;
};

} // namespace vtensor::testing::simulated
