// SPDX-License-Identifier: Apache-2.0
//
// Which requests have come and wait, in the order in which they are let in: first come, first served, but
// those whose memory was taken away are at the front. It knows the clock of the simulation and nothing else.
#pragma once

#include "workload.hpp"

#include <cstddef>
#include <deque>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

namespace vtensor::bench {

class request_queue {
  public:
    /// `asked` must outlive the queue.
    explicit request_queue(const workload& asked) : asked_{&asked}, followers_(asked.requests.size(), none) {
        for (std::size_t index = 0; index < asked.requests.size(); ++index) {
            const request& one = asked.requests[index];
            if (one.after == none)
                coming_.emplace(one.arrival, index);
            else
                followers_[one.after] = index;
        }
    }

    /// Lets everything come that comes until `now`.
    void advance(double now) {
        for (; !coming_.empty() && coming_.top().first <= now; coming_.pop())
            waiting_.push_back(coming_.top().second);
    }
    [[nodiscard]] bool waits() const noexcept { return !waiting_.empty(); }
    [[nodiscard]] std::size_t front() const { return waiting_.front(); }
    void take_front() { waiting_.pop_front(); }
    /// A request that had been let in waits again, before all others.
    void put_back(std::size_t request) { waiting_.push_front(request); }

    /// Whether more will come without anything ending, and when.
    [[nodiscard]] bool empty() const noexcept { return waiting_.empty() && coming_.empty(); }
    [[nodiscard]] double next_arrival() const { return coming_.top().first; }

    /// The request was answered at `now`: the one that follows it comes after its time.
    void finished(std::size_t request, double now) {
        if (const std::size_t next = followers_[request]; next != none)
            coming_.emplace(now + asked_->requests[next].arrival, next);
    }
    /// The request will not be answered, nor those that follow it. Returns how many they are, itself
    /// included.
    [[nodiscard]] std::size_t refused(std::size_t request) const {
        std::size_t count = 0;
        for (; request != none; request = followers_[request])
            ++count;
        return count;
    }

  private:
    using arrival = std::pair<double, std::size_t>; ///< seconds, request; the earlier request first in a tie

    const workload* asked_;
    std::vector<std::size_t> followers_;
    std::priority_queue<arrival, std::vector<arrival>, std::greater<>> coming_;
    std::deque<std::size_t> waiting_;
};

} // namespace vtensor::bench
