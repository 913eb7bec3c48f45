// SPDX-License-Identifier: Apache-2.0
//
// Streams and events of the simulation. A stream is a queue of operations in order; an event is a point in a
// queue. Nothing here is synchronised: the machine's lock is held, except while the body of a kernel runs.
#pragma once

#include <support/simulated_driver/physical_memory.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace vtensor::testing::simulated {

/// Bytes that an operation reads or writes.
struct touched {
    std::uintptr_t where = 0;
    std::size_t size = 0;

    [[nodiscard]] bool overlaps(std::uintptr_t other, std::size_t bytes) const noexcept {
        return where < other + bytes && other < where + size;
    }
};

struct stream_state;

/// A point in a stream: reached when that many of its operations are done.
struct stream_point {
    std::shared_ptr<stream_state> on;
    std::uint64_t operations = 0;

    [[nodiscard]] bool reached() const noexcept;
};

struct operation {
    std::vector<stream_point> after{}; ///< points of other streams that must be reached first
    std::vector<touched> reads{};
    std::vector<touched> writes{};
    std::function<void()> body{};
    bool kernel = false; ///< runs without the machine's lock
};

struct stream_state {
    std::uint64_t number = 0;
    std::uint64_t context = 0;
    int device = 0;
    bool blocking = true;  ///< waits for the default stream of its context, and is waited for by it
    bool standard = false; ///< the default stream of a context
    bool stalled = false;
    bool destroyed = false;
    bool running = false; ///< a kernel's body is, without the lock; it is still the first in the queue
    std::uint64_t enqueued = 0;
    std::uint64_t completed = 0;
    std::deque<operation> queue{};
};

inline bool stream_point::reached() const noexcept { return !on || on->completed >= operations; }

struct event_state {
    std::uint64_t context = 0;
    int device = 0;
    stream_point last{}; ///< where it was recorded last; without a stream where never
};

/// All streams and events of a machine.
class stream_set {
  public:
    std::shared_ptr<stream_state> create(std::uint64_t context, int device, bool blocking) {
        auto made = std::make_shared<stream_state>();
        made->number = next_object_number();
        made->context = context;
        made->device = device;
        made->blocking = blocking;
        streams_.push_back(made);
        return made;
    }
    /// The default stream of a context, made when first used.
    std::shared_ptr<stream_state> standard(std::uint64_t context, int device) {
        for (const auto& one : streams_) {
            if (one->standard && one->context == context)
                return one;
        }
        auto made = create(context, device, false);
        made->standard = true;
        return made;
    }
    /// Null where there is no stream of that number, or no longer.
    [[nodiscard]] std::shared_ptr<stream_state> find(std::uint64_t number) const noexcept {
        for (const auto& one : streams_) {
            if (one->number == number && !one->destroyed && !one->standard)
                return one;
        }
        return nullptr;
    }
    /// The handle is gone at once, the work goes on.
    void destroy(const std::shared_ptr<stream_state>& gone) noexcept {
        gone->destroyed = true;
        forget_idle();
    }

    /// Queues an operation; throws before anything has changed. The default stream of a context waits for the
    /// blocking streams of it, and they for the default stream.
    void enqueue(const std::shared_ptr<stream_state>& on, operation work) {
        for (const auto& other : streams_) {
            const bool ordered = other != on && other->context == on->context &&
                                 ((on->standard && other->blocking) || (on->blocking && other->standard));
            if (ordered && other->completed != other->enqueued)
                work.after.push_back({other, other->enqueued});
        }
        on->queue.push_back(std::move(work));
        ++on->enqueued;
    }

    /// A stream whose first operation can be carried out now, or null.
    [[nodiscard]] std::shared_ptr<stream_state> runnable() const noexcept {
        for (const auto& one : streams_) {
            if (!one->stalled && is_ready(*one))
                return one;
        }
        return nullptr;
    }
    [[nodiscard]] static bool is_ready(const stream_state& one) noexcept {
        if (one.running || one.queue.empty())
            return false;
        for (const stream_point& point : one.queue.front().after) {
            if (!point.reached())
                return false;
        }
        return true;
    }
    void completed(stream_state& one) noexcept {
        one.queue.pop_front();
        ++one.completed;
        if (one.queue.empty() && one.destroyed)
            forget_idle();
    }

    /// The first stream with queued or running work that touches the range, or null.
    [[nodiscard]] const stream_state* user_of(std::uintptr_t where, std::size_t size) const noexcept {
        for (const auto& one : streams_) {
            for (const operation& work : one->queue) {
                if (touches(work, where, size))
                    return one.get();
            }
        }
        return nullptr;
    }
    /// True while a kernel's body runs that touches the range.
    [[nodiscard]] bool is_running_on(std::uintptr_t where, std::size_t size) const noexcept {
        for (const auto& one : streams_) {
            if (one->running && touches(one->queue.front(), where, size))
                return true;
        }
        return false;
    }

    std::uint64_t create_event(std::uint64_t context, int device) {
        const std::uint64_t number = next_object_number();
        events_.emplace(number, event_state{context, device});
        return number;
    }
    [[nodiscard]] event_state* find_event(std::uint64_t number) noexcept {
        const auto found = events_.find(number);
        return found == events_.end() ? nullptr : &found->second;
    }
    bool destroy_event(std::uint64_t number) noexcept { return events_.erase(number) != 0; }

    [[nodiscard]] const std::vector<std::shared_ptr<stream_state>>& streams() const noexcept {
        return streams_;
    }
    [[nodiscard]] std::size_t live_streams() const noexcept {
        std::size_t count = 0;
        for (const auto& one : streams_)
            count += one->standard || one->destroyed ? 0u : 1u;
        return count;
    }
    [[nodiscard]] std::size_t live_events() const noexcept { return events_.size(); }
    [[nodiscard]] std::size_t queued() const noexcept {
        std::size_t count = 0;
        for (const auto& one : streams_)
            count += one->queue.size();
        return count;
    }

  private:
    static bool touches(const operation& work, std::uintptr_t where, std::size_t size) noexcept {
        for (const auto* list : {&work.reads, &work.writes}) {
            for (const touched& range : *list) {
                if (range.overlaps(where, size))
                    return true;
            }
        }
        return false;
    }
    void forget_idle() noexcept {
        std::erase_if(streams_, [](const auto& one) { return one->destroyed && one->queue.empty(); });
    }

    std::vector<std::shared_ptr<stream_state>> streams_;
    std::map<std::uint64_t, event_state> events_;
};

} // namespace vtensor::testing::simulated
