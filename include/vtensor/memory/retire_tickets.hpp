// SPDX-License-Identifier: Apache-2.0
//
// The tickets that pages wait for: in use, in the lane of their stream and in the order of recording, or
// spare. Which pages wait is written in retire_book.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/retiring_page.hpp>

#include <boost/intrusive/list.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace vtensor::detail {

template <stream_ordered_backend Backend>
class retire_tickets {
  public:
    using stream_type = typename Backend::stream_type;
    using ticket = retire_ticket<Backend>;
    using lane = retire_lane<Backend>;

    spares<ticket> spare_tickets;
    spares<lane> spare_lanes;

    [[nodiscard]] boost::intrusive::list<lane>& lanes() noexcept { return lanes_; }
    /// Null where streams cannot be compared: each ticket then has a lane of its own.
    [[nodiscard]] lane* find_lane([[maybe_unused]] const stream_type& stream) noexcept {
        if constexpr (std::equality_comparable<stream_type>) {
            for (lane& one : lanes_) {
                if (one.stream == stream)
                    return &one;
            }
        }
        return nullptr;
    }
    /// Out of the spares.
    lane& add_lane(const stream_type& stream) noexcept {
        lane& added = spare_lanes.take();
        added.stream = stream;
        lanes_.push_back(added);
        return added;
    }
    /// The next spare ticket, whose event was recorded.
    ticket& add_ticket(lane& to) noexcept {
        ticket& added = spare_tickets.take();
        added.number = ++last_number_;
        added.lane = &to;
        to.tickets.push_back(added);
        return added;
    }
    [[nodiscard]] std::uint64_t last_number() const noexcept { return last_number_; }

    /// The oldest ticket up to `last` that keeps pages mapped which nobody wants, or null.
    [[nodiscard]] ticket* oldest(std::uint64_t last) noexcept {
        ticket* found = nullptr;
        for (lane& one : lanes_) {
            for (ticket& waiting : one.tickets) {
                if (waiting.retiring == 0)
                    continue;
                if (waiting.number <= last && (found == nullptr || waiting.number < found->number))
                    found = &waiting;
                break;
            }
        }
        return found;
    }

    /// No page waits for the ticket any more.
    void put_away(ticket& over) noexcept {
        lane& from = *over.lane;
        from.tickets.erase(from.tickets.iterator_to(over));
        over.lane = nullptr;
        if (over.waiters == 0) // otherwise the last waiter puts it to the spares
            spare_tickets.keep(over);
        if (from.tickets.empty()) {
            lanes_.erase(lanes_.iterator_to(from));
            spare_lanes.keep(from);
        }
    }

    /// Of all lanes. O(lanes).
    [[nodiscard]] std::size_t pending() const noexcept {
        std::size_t count = 0;
        for (const lane& one : lanes_)
            count += one.tickets.size();
        return count;
    }

    /// Whether the tickets are where they say they are, with their pages. Counts the pages that retire behind
    /// them. O(pages).
    [[nodiscard]] bool verify(std::size_t& retiring) const noexcept {
        for (const lane& one : lanes_) {
            if (one.tickets.empty())
                return false;
            for (const ticket& waiting : one.tickets) {
                std::size_t counted = 0;
                for (const retiring_page<Backend>& read : waiting.pages) {
                    if (read.ticket != &waiting)
                        return false;
                    counted += read.stage == retiring_stage::retiring ? 1 : 0;
                }
                if (waiting.lane != &one || waiting.pages.empty() || counted != waiting.retiring)
                    return false;
                retiring += counted;
            }
        }
        return true;
    }

  private:
    boost::intrusive::list<lane> lanes_; ///< each with a ticket, each ticket with a page
    std::uint64_t last_number_ = 0;
};

} // namespace vtensor::detail
