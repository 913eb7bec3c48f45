// SPDX-License-Identifier: Apache-2.0
//
// What a retire queue calls of its backend: events are created, recorded work is asked after or waited for,
// pages are unmapped. Every function is called with the queue's lock held.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/retire_book.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>

namespace vtensor::detail {

template <stream_ordered_backend Backend, class Pool>
class retire_work {
  public:
    using book_type = retire_book<Backend>;
    using stream_type = typename Backend::stream_type;
    using addresses = typename book_type::addresses;
    using page = typename book_type::page;
    using ticket = typename book_type::ticket;
    using lane = retire_lane<Backend>;

    static constexpr page_count every_page{std::numeric_limits<std::size_t>::max()};

    retire_work(Pool& pool, book_type& book) noexcept : pool_{pool}, book_{book} {}

    /// Events created so far.
    [[nodiscard]] std::size_t events() const noexcept { return events_; }

    // ---- what a retirement takes ----

    [[nodiscard]] status make_spare_pages(std::size_t count) noexcept {
        while (book_.spare_pages.size() < count) {
            if (!book_.spare_pages.add())
                return no_memory(sizeof(page));
        }
        return {};
    }
    /// Pages, a ticket with its event, and a lane where `stream` is given.
    [[nodiscard]] status make_spares(std::size_t pages, const stream_type* stream) noexcept {
        if (const status outcome = make_spare_pages(pages); !outcome)
            return outcome;
        if (stream != nullptr && book_.tickets.spare_lanes.empty() && !book_.tickets.spare_lanes.add(*stream))
            return no_memory(sizeof(lane));
        if (!book_.tickets.spare_tickets.empty())
            return {};
        const auto event = backend().create_event();
        if (!event)
            return event.status();
        ++events_;
        if (book_.tickets.spare_tickets.add(*event))
            return {};
        destroy(*event);
        return no_memory(sizeof(ticket));
    }

    /// A revived page may have readers on another stream. The stream waits for them, so that one event tells
    /// of all; the calling thread does not. Streams are not compared here: one name may stand for several
    /// (a stream for each thread, or one destroyed and another created).
    [[nodiscard]] status wait_for_readers(const addresses& range, page_index first,
                                          const stream_type& stream) noexcept {
        const ticket* last = nullptr;
        for (const page& one : range.pages) {
            if (one.stage != retiring_stage::revived)
                break;
            if (one.index < first || one.ticket == last)
                continue;
            last = one.ticket;
            if (const status outcome = backend().wait(stream, last->event); !outcome)
                return outcome;
        }
        return {};
    }

    // ---- what is done ----

    /// Asks which events have happened. Where one lane's cannot be asked the others are all the same, and the
    /// first failure is returned.
    [[nodiscard]] status poll() noexcept {
        status failure;
        auto& lanes = book_.tickets.lanes();
        for (auto next = lanes.begin(); next != lanes.end();) {
            lane& one = *next++; // it goes with its last ticket
            for (std::size_t left = one.tickets.size(); left > 0; --left) {
                ticket& oldest = one.tickets.front();
                const auto happened = backend().query(oldest.event);
                if (!happened && failure)
                    failure = happened.status();
                if (!happened || !*happened)
                    break;
                book_.settle(oldest);
            }
        }
        return failure;
    }

    /// Of the tickets up to number `last`, with the lock free meanwhile. False where there is nothing to wait
    /// for.
    template <class Lock>
    [[nodiscard]] result<bool> wait_for_oldest(Lock& lock, std::uint64_t last) noexcept {
        ticket* const waited = book_.tickets.oldest(last);
        if (waited == nullptr)
            return false;
        if (const status outcome = wait_for_ticket(lock, *waited); !outcome)
            return outcome;
        return true;
    }
    /// Until the ticket is settled, with the lock free meanwhile.
    template <class Lock>
    [[nodiscard]] status wait_for_ticket(Lock& lock, ticket& waited) noexcept {
        ++waited.waiters;
        lock.unlock();
        const status outcome = backend().wait(waited.event);
        lock.lock();
        --waited.waiters;
        if (waited.lane == nullptr) { // another thread saw that it had happened
            if (waited.waiters == 0)
                book_.tickets.spare_tickets.keep(waited);
            return {};
        }
        if (outcome)
            book_.settle(waited);
        return outcome;
    }
    /// For all that is queued on the stream now, with the lock free meanwhile.
    template <class Lock>
    [[nodiscard]] status wait_for_stream(Lock& lock, const stream_type& stream) noexcept {
        if (const status outcome = make_spares(0, nullptr); !outcome)
            return outcome;
        ticket& used = book_.tickets.spare_tickets.take();
        status outcome = backend().record(used.event, stream);
        if (outcome) {
            lock.unlock();
            outcome = backend().wait(used.event);
            lock.lock();
        }
        book_.tickets.spare_tickets.keep(used);
        return outcome;
    }

    /// Neighbours in one call, until `enough` pages are given back.
    [[nodiscard]] status unmap_due(page_count enough, page_count& reclaimed) noexcept {
        status failure;
        auto& due = book_.due();
        auto next = due.begin();
        while (next != due.end() && reclaimed < enough) {
            const page& first = *next;
            const addresses& range = *first.range;
            std::size_t count = 0;
            for (;
                 next != due.end() && next->range == &range && next->index == first.index + page_count{count};
                 ++next)
                ++count;
            if (const status outcome = backend().unmap(range.at(first.index), range.page_size * count);
                !outcome) {
                failure = failure ? outcome : failure;
                continue;
            }
            // Last page first, so that the pool hands the same chunks out again in page order.
            for (std::size_t left = count; left > 0; --left) {
                page& gone = *std::prev(next);
                pool_.release(gone.chunk);
                book_.finish(gone);
            }
            reclaimed += page_count{count};
        }
        return failure;
    }
    /// What the backend refuses stays due.
    void unmap_all_due() noexcept {
        page_count reclaimed{};
        static_cast<void>(unmap_due(every_page, reclaimed));
    }

    /// Waits for what is queued, unmaps it and destroys the events, trying twice whatever fails; gives up
    /// what is left then.
    void close() noexcept {
        while (!book_.tickets.lanes().empty()) {
            ticket& oldest = book_.tickets.lanes().front().tickets.front();
            if (backend().wait(oldest.event) || backend().wait(oldest.event)) {
                book_.settle(oldest);
                continue;
            }
            while (!oldest.pages.empty())
                book_.lose(oldest.pages.front());
        }
        unmap_all_due();
        unmap_all_due();
        while (!book_.due().empty())
            book_.lose(book_.due().front());
        while (!book_.tickets.spare_tickets.empty()) {
            const std::unique_ptr<ticket> unused{&book_.tickets.spare_tickets.take()};
            destroy(unused->event);
        }
    }

  private:
    [[nodiscard]] Backend& backend() const noexcept { return pool_.backend(); }

    static error no_memory(std::size_t size) noexcept {
        return error{errc::out_of_memory, verb::shrink, 0, bytes{size}};
    }
    /// Tries twice; an event that stays then is lost, and nothing else.
    void destroy(const typename Backend::event_type& event) noexcept {
        if (!backend().destroy_event(event))
            static_cast<void>(backend().destroy_event(event));
    }

    Pool& pool_;
    book_type& book_;
    std::size_t events_ = 0;
};

} // namespace vtensor::detail
