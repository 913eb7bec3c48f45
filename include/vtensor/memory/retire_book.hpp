// SPDX-License-Identifier: Apache-2.0
//
// The book-keeping of a retire queue: which page waits for which ticket, what is due, what was claimed back.
// It calls no backend, takes no lock and waits for nothing: that is retire_queue.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/pooled_chunk.hpp>
#include <vtensor/memory/retire_tickets.hpp>
#include <vtensor/memory/retire_types.hpp>
#include <vtensor/memory/retiring_page.hpp>

#include <cstddef>
#include <iterator>
#include <span>

namespace vtensor::detail {

template <stream_ordered_backend Backend>
class retire_book {
  public:
    using chunk = pooled_chunk<Backend>;
    using addresses = retiring_addresses<Backend>;
    using page = retiring_page<Backend>;
    using ticket = retire_ticket<Backend>;
    using stage = retiring_stage;
    using due_list = retiring_list<Backend, by_ticket>;

    retire_tickets<Backend> tickets;
    spares<page, retiring_list<Backend, by_addresses>> spare_pages;

    /// The ticket's event has happened: what retires behind it is due.
    void settle(ticket& over) noexcept {
        while (!over.pages.empty()) {
            page& free = over.pages.front();
            over.pages.pop_front();
            free.ticket = nullptr;
            if (free.stage == stage::retiring)
                due_.push_back(free);
            else if (free.stage == stage::revived)
                remove(free);
        }
        over.retiring = 0;
        tickets.put_away(over);
    }

    // ---- pages of a range ----
    //
    // In page order: first what is revived, then what is claimed, then what retires.

    /// Whether work that was queued before a page was revived may still read one from `first` on.
    [[nodiscard]] static bool is_read(const addresses& range, page_index first) noexcept {
        for (const page& one : range.pages) {
            if (one.stage != stage::revived)
                break;
            if (one.index >= first)
                return true;
        }
        return false;
    }

    [[nodiscard]] static bool is_retiring(const addresses& range, page_index wanted) noexcept {
        for (const page& one : range.pages) {
            if (one.index == wanted)
                return one.stage == stage::retiring;
        }
        return false;
    }

    /// The first of the pages [first, end) that retires, of all or of those that may only be read; null where
    /// there is none.
    [[nodiscard]] static const page* retiring(const addresses& range, page_index first, page_index end,
                                              bool read_only) noexcept {
        for (const page& one : range.pages) {
            if (one.index >= first && one.index < end && one.stage == stage::retiring &&
                (one.read_only || !read_only))
                return &one;
        }
        return nullptr;
    }

    /// Behind whose event work may still read a revived page from `first` on; null where there is none.
    [[nodiscard]] static ticket* reader(const addresses& range, page_index first) noexcept {
        for (const page& one : range.pages) {
            if (one.stage != stage::revived)
                break;
            if (one.index >= first)
                return one.ticket;
        }
        return nullptr;
    }

    /// Enters the run, which retires behind `recorded`, or where that is null behind what its pages wait for
    /// already. Takes spare pages.
    void give_up(addresses& range, const page_run<Backend>& run, ticket* recorded) noexcept {
        auto next = range.pages.begin();
        page_index index = run.first;
        for (const chunk& behind : run.chunks) {
            while (next != range.pages.end() && next->index < index)
                ++next;
            if (next == range.pages.end() || next->index != index) {
                page& fresh = spare_pages.take();
                fresh.index = index;
                fresh.chunk = behind;
                fresh.range = &range;
                fresh.ticket = recorded;
                if (recorded != nullptr)
                    recorded->pages.push_back(fresh);
                next = range.pages.insert(next, fresh);
            } else if (recorded != nullptr) {
                change_ticket(*next, *recorded);
            }
            next->accessible = index < run.first + run.accessible;
            next->read_only = run.read_only[(index - run.first).count()] != 0;
            retire(*next);
            ++index;
        }
    }

    /// Takes the retiring pages from `first` on for a growth, and puts their chunks into `room`. Whether all
    /// of them may be touched.
    [[nodiscard]] bool claim(addresses& range, page_index first, std::span<chunk> room) noexcept {
        bool accessible = true;
        for (chunk& place : room)
            place = chunk{};
        for (page& wanted : range.pages) {
            if (wanted.index < first || wanted.stage != stage::retiring)
                continue;
            const std::size_t place = (wanted.index - first).count();
            if (place >= room.size())
                break;
            room[place] = wanted.chunk;
            accessible = accessible && wanted.accessible;
            withdraw(wanted, stage::claimed);
        }
        return accessible;
    }
    /// What was claimed from `first` on retires as before.
    void unclaim(addresses& range, page_index first) noexcept {
        for (page& wanted : range.pages) {
            if (wanted.stage == stage::retiring)
                break;
            if (wanted.stage == stage::claimed && wanted.index >= first)
                retire(wanted);
        }
    }
    /// What is claimed belongs to the range.
    void revive(addresses& range) noexcept {
        for (auto next = range.pages.begin(); next != range.pages.end();) {
            page& taken = *next++;
            if (taken.stage == stage::retiring)
                break;
            if (taken.stage == stage::revived)
                continue;
            ++revived_;
            taken.stage = stage::revived;
            if (taken.ticket == nullptr)
                remove(taken);
        }
    }

    /// Of the mapped pages [first, end) the longest tail that is wholly here, or wholly not. If here, it
    /// retires.
    [[nodiscard]] page_tail take_tail(addresses& range, page_index first, page_index end) noexcept {
        auto next = range.pages.rbegin();
        while (next != range.pages.rend() && next->index >= end)
            ++next;
        if (next == range.pages.rend() || next->index < first)
            return {first, false};
        if (next->index + page_count{1} < end)
            return {next->index + page_count{1}, false};
        auto lowest = next;
        for (++next; next != range.pages.rend() && next->index >= first &&
                     next->index + page_count{1} == lowest->index;
             ++next)
            lowest = next;
        const page_index kept = lowest->index;
        for (auto given = std::prev(lowest.base()); given != range.pages.end() && end > given->index; ++given)
            retire(*given);
        return {kept, true};
    }

    // ---- what is due ----

    [[nodiscard]] due_list& due() noexcept { return due_; }

    /// The page is unmapped.
    void finish(page& unmapped) noexcept {
        withdraw(unmapped, stage::retiring);
        ++reclaimed_;
        remove(unmapped);
    }
    /// The page stays mapped for ever: its addresses are nobody's, and its chunk is not given back.
    void lose(page& lost) noexcept {
        ticket* const waited = lost.ticket;
        if (lost.stage == stage::retiring)
            withdraw(lost, stage::retiring);
        lost.range->left_behind.forget();
        if (waited != nullptr) {
            lost.ticket = nullptr;
            drop(lost, *waited);
        }
        remove(lost);
    }

    // ---- figures ----

    [[nodiscard]] retire_stats stats() const noexcept {
        return {retiring_, due_.size(), retired_, revived_, reclaimed_, tickets.pending(), 0};
    }

    /// O(pages).
    [[nodiscard]] bool verify() const noexcept {
        std::size_t retiring = due_.size();
        if (!tickets.verify(retiring))
            return false;
        for (const page& one : due_) {
            if (one.ticket != nullptr || one.stage != stage::retiring)
                return false;
        }
        return retiring == retiring_;
    }

    /// Whether the entry is of a range whose pages end at `mapped`: in page order, revived where a page is
    /// the range's and otherwise retiring, and `holds(page, is the range's)`. O(pages).
    template <class Holds>
    [[nodiscard]] static bool verify(const addresses& range, page_index mapped, page_index limit,
                                     Holds holds) noexcept {
        page_index least;
        std::size_t retiring = 0;
        for (const page& one : range.pages) {
            const bool owned = one.index < mapped;
            const stage right = owned ? stage::revived : stage::retiring;
            if (one.index < least || one.index >= limit || one.stage != right || one.range != &range ||
                !holds(one, owned))
                return false;
            least = one.index + page_count{1};
            retiring += owned ? 0u : 1u;
        }
        return retiring == range.retiring;
    }

  private:
    /// The page retires: with its ticket, or at once.
    void retire(page& given) noexcept {
        retired_ += given.stage == stage::claimed ? 0 : 1; // a growth that failed gives nothing up anew
        given.stage = stage::retiring;
        ++given.range->retiring;
        ++retiring_;
        if (given.ticket != nullptr)
            ++given.ticket->retiring;
        else
            due_.push_back(given);
    }
    /// The page retires no more.
    void withdraw(page& wanted, stage next) noexcept {
        wanted.stage = next;
        --wanted.range->retiring;
        --retiring_;
        if (wanted.ticket != nullptr)
            --wanted.ticket->retiring;
        else
            due_.erase(due_.iterator_to(wanted));
    }

    void change_ticket(page& revived, ticket& recorded) noexcept {
        ticket& earlier = *revived.ticket;
        revived.ticket = &recorded;
        drop(revived, earlier);
        recorded.pages.push_back(revived);
    }
    void drop(page& leaving, ticket& from) noexcept {
        from.pages.erase(from.pages.iterator_to(leaving));
        if (from.pages.empty())
            tickets.put_away(from);
    }
    /// The page is in no list but that of its range.
    void remove(page& gone) noexcept {
        addresses& range = *gone.range;
        range.pages.erase(range.pages.iterator_to(gone));
        spare_pages.keep(gone);
        if (range.abandoned && range.pages.empty())
            delete &range;
    }

    due_list due_; ///< pages that wait for nothing but to be unmapped
    std::size_t retiring_ = 0;
    std::size_t retired_ = 0;
    std::size_t revived_ = 0;
    std::size_t reclaimed_ = 0;
};

} // namespace vtensor::detail
