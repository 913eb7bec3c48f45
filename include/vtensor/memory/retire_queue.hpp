// SPDX-License-Identifier: Apache-2.0
//
// Pages that queued work may still read, kept mapped until the event recorded behind that work has happened.
// It unmaps and gives chunks back; it never maps, never creates a chunk, and waits only where its caller asks
// it to. Which pages retire is said by retiring_range.hpp, who waits for what is written in retire_book.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/pooled_chunk.hpp>
#include <vtensor/memory/reservation.hpp>
#include <vtensor/memory/retire_book.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <utility>

namespace vtensor {

/// The retiring pages of all ranges on one pool. `retire` costs one `record` and O(pages); it neither waits
/// nor unmaps, and in steady state allocates nothing: events are used again. A page is unmapped once, so that
/// all `reclaim`s together are O(pages retired), beside one `query` for each stream and call.
///
/// Thread-safe where `Mutex` is a mutex. The backend is called under its lock, except to wait for an event.
/// The pool owns it (`chunk_pool::retiring()`); every range on it must be gone before it.
template <stream_ordered_backend Backend, mutex_type Mutex = no_mutex>
class retire_queue {
    using book_type = detail::retire_book<Backend>;
    using page = typename book_type::page;
    using ticket = typename book_type::ticket;
    using lane = typename book_type::lane;

  public:
    using pool_type = chunk_pool<Backend, Mutex>;
    using stream_type = typename Backend::stream_type;
    using chunk = pooled_chunk<Backend>;
    using addresses_type = detail::retiring_addresses<Backend>;
    using page_run = detail::page_run<Backend>;

    static constexpr page_count every_page{std::numeric_limits<std::size_t>::max()};

    explicit retire_queue(pool_type& pool) noexcept : pool_{&pool} {}
    retire_queue(const retire_queue&) = delete;
    retire_queue& operator=(const retire_queue&) = delete;
    ~retire_queue() { close(); }

    // ---- for everybody ----

    /// Unmaps what no work reads any more, without waiting, until at least `enough` pages are back in the
    /// pool or no more are due. What could not be asked or unmapped stays queued, the rest is done all the
    /// same, and the first failure is returned.
    [[nodiscard]] status reclaim(page_count enough = every_page) noexcept {
        page_count reclaimed{};
        return reclaim(enough, reclaimed);
    }
    /// The same, and says how many pages it gave back.
    [[nodiscard]] status reclaim(page_count enough, page_count& reclaimed) noexcept {
        const std::lock_guard lock{mutex_};
        const status polled = poll();
        const status unmapped = unmap_due(enough, reclaimed);
        return polled ? unmapped : polled;
    }

    /// Waits for the first recorded of the events that pages retire behind, and unmaps what is due then.
    /// False where there is none. A failed wait leaves everything queued. Other threads may use the queue
    /// meanwhile.
    [[nodiscard]] result<bool> wait_oldest() noexcept {
        std::unique_lock lock{mutex_};
        const result<bool> waited = wait_for_oldest(lock, book_.last_number());
        if (waited && *waited)
            unmap_all_due();
        return waited;
    }

    /// Waits for everything that is queued now, and unmaps it. Not for a hot path. After a failure a later
    /// call goes on where this one stopped.
    [[nodiscard]] status drain() noexcept {
        std::unique_lock lock{mutex_};
        const std::uint64_t last = book_.last_number();
        for (;;) {
            const result<bool> waited = wait_for_oldest(lock, last);
            if (!waited)
                return waited.status();
            if (!*waited)
                break;
        }
        page_count reclaimed{};
        return unmap_due(every_page, reclaimed);
    }

    [[nodiscard]] retire_stats stats() const noexcept {
        const std::lock_guard lock{mutex_};
        retire_stats figures = book_.stats();
        figures.events = events_;
        return figures;
    }

    /// Checks the queue's own book-keeping, O(pages).
    [[nodiscard]] bool verify() const noexcept {
        const std::lock_guard lock{mutex_};
        return book_.verify();
    }

    // ---- for ranges ----

    /// An entry for a range's addresses, to be given back by `leave`.
    [[nodiscard]] static result<std::unique_ptr<addresses_type>> enter(address start,
                                                                       bytes page_size) noexcept {
        std::unique_ptr<addresses_type> made{new (std::nothrow) addresses_type{start, page_size}};
        if (made == nullptr)
            return error{errc::out_of_memory, verb::construct, 0, bytes{sizeof(addresses_type)}};
        return made;
    }

    /// The range is gone. Its reservation is released when none of its pages is mapped any more.
    void leave(std::unique_ptr<addresses_type> entry, reservation<Backend>&& addresses) noexcept {
        const std::lock_guard lock{mutex_};
        entry->left_behind = std::move(addresses);
        entry->abandoned = true;
        if (!entry->pages.empty())
            static_cast<void>(entry.release()); // the book deletes it with its last page
    }

    /// The run retires behind all that is queued on the stream now, or nothing changes.
    [[nodiscard]] status retire(addresses_type& range, const page_run& run,
                                const stream_type& stream) noexcept {
        const std::lock_guard lock{mutex_};
        if (book_.is_read(range, run.first))
            static_cast<void>(poll()); // what has happened meanwhile need not be waited for
        lane* const known = book_.find_lane(stream);
        if (const status outcome = make_spares(run.chunks.size(), known == nullptr ? &stream : nullptr);
            !outcome)
            return outcome;
        if (const status outcome = wait_for_readers(range, run.first, stream); !outcome)
            return outcome;
        if (const status outcome = backend().record(book_.spare_tickets.next().event, stream); !outcome)
            return outcome;
        ticket& recorded = book_.add_ticket(known != nullptr ? *known : book_.add_lane(stream));
        book_.give_up(range, run, &recorded);
        return {};
    }

    /// The run is given up, and nothing queued since it was grown reads it. What earlier work reads waits for
    /// that work; the rest is unmapped now, or where the backend refuses by a later `reclaim`. Fails only
    /// where there is no memory for book-keeping, and changes nothing then.
    [[nodiscard]] status give_up(addresses_type& range, const page_run& run) noexcept {
        const std::lock_guard lock{mutex_};
        if (const status outcome = make_spare_pages(run.chunks.size()); !outcome)
            return outcome;
        book_.give_up(range, run, nullptr);
        unmap_all_due();
        return {};
    }

    /// Whether work that was queued before a page was revived may still read one from `first` on.
    [[nodiscard]] bool still_read(const addresses_type& range, page_index first) noexcept {
        const std::lock_guard lock{mutex_};
        if (!book_.is_read(range, first))
            return false;
        static_cast<void>(poll());
        return book_.is_read(range, first);
    }

    /// Takes the retiring pages from `first` on back for a growth: puts their chunks into `room`, one place a
    /// page, and no chunk for the others. They stay mapped until the growth is over. Whether all of them may
    /// be touched.
    [[nodiscard]] bool claim(addresses_type& range, page_index first, std::span<chunk> room) noexcept {
        const std::lock_guard lock{mutex_};
        return book_.claim(range, first, room);
    }
    /// The growth failed: what was claimed from `first` on retires as before.
    void unclaim(addresses_type& range, page_index first) noexcept {
        const std::lock_guard lock{mutex_};
        book_.unclaim(range, first);
    }
    /// The growth is over: what is claimed belongs to the range.
    void revive(addresses_type& range) noexcept {
        const std::lock_guard lock{mutex_};
        book_.revive(range);
    }
    /// Of the mapped pages [first, end) the longest tail that queued work may read, or that none reads. The
    /// former retires.
    [[nodiscard]] detail::page_tail take_tail(addresses_type& range, page_index first,
                                              page_index end) noexcept {
        const std::lock_guard lock{mutex_};
        return book_.take_tail(range, first, end);
    }

    [[nodiscard]] page_count retiring(const addresses_type& range) const noexcept {
        const std::lock_guard lock{mutex_};
        return page_count{range.retiring};
    }
    [[nodiscard]] bool is_retiring(const addresses_type& range, page_index wanted) const noexcept {
        const std::lock_guard lock{mutex_};
        for (const page& one : range.pages) {
            if (one.index == wanted)
                return one.stage == detail::retiring_stage::retiring;
        }
        return false;
    }

    /// Checks the entry against its range, whose pages end at `mapped`, O(pages): in page order, each with a
    /// chunk that is in use, revived where it is the range's, otherwise retiring.
    template <class ChunkOf>
    [[nodiscard]] bool verify(const addresses_type& range, page_index mapped, page_index limit,
                              ChunkOf chunk_of) const noexcept {
        const std::lock_guard lock{mutex_};
        page_index least;
        std::size_t retiring = 0;
        for (const page& one : range.pages) {
            const bool owned = one.index < mapped;
            const auto stage = owned ? detail::retiring_stage::revived : detail::retiring_stage::retiring;
            if (one.index < least || one.index >= limit || one.stage != stage || one.range != &range)
                return false;
            if (!one.chunk || pool_->references(one.chunk) == 0 ||
                (owned && one.chunk != chunk_of(one.index)))
                return false;
            least = one.index + page_count{1};
            retiring += owned ? 0u : 1u;
        }
        return retiring == range.retiring;
    }

    // ---- for the pool ----

    /// Waits for what is queued, unmaps it and destroys the events, trying twice whatever fails. Pages for
    /// which that is not enough stay mapped for ever, with their chunks and addresses out of everybody's
    /// reach.
    void close() noexcept {
        const std::lock_guard lock{mutex_};
        while (!book_.lanes().empty()) {
            ticket& oldest = book_.lanes().front().tickets.front();
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
        while (!book_.spare_tickets.empty()) {
            const std::unique_ptr<ticket> unused{&book_.spare_tickets.take()};
            destroy(unused->event);
        }
    }

  private:
    [[nodiscard]] Backend& backend() const noexcept { return pool_->backend(); }

    /// Tries twice; an event that stays then is lost, and nothing else.
    void destroy(const typename Backend::event_type& event) noexcept {
        if (!backend().destroy_event(event))
            static_cast<void>(backend().destroy_event(event));
    }

    // ---- what a retirement takes ----

    static error no_memory(std::size_t size) noexcept {
        return error{errc::out_of_memory, verb::shrink, 0, bytes{size}};
    }
    status make_spare_pages(std::size_t count) noexcept {
        while (book_.spare_pages.size() < count) {
            if (!book_.spare_pages.add())
                return no_memory(sizeof(page));
        }
        return {};
    }
    /// Pages, a ticket with its event, and a lane where `stream` is given.
    status make_spares(std::size_t pages, const stream_type* stream) noexcept {
        if (const status outcome = make_spare_pages(pages); !outcome)
            return outcome;
        if (stream != nullptr && book_.spare_lanes.empty() && !book_.spare_lanes.add(*stream))
            return no_memory(sizeof(lane));
        if (!book_.spare_tickets.empty())
            return {};
        const auto event = backend().create_event();
        if (!event)
            return event.status();
        ++events_;
        if (book_.spare_tickets.add(*event))
            return {};
        destroy(*event);
        return no_memory(sizeof(ticket));
    }

    /// A revived page may have readers on another stream. The stream waits for them, so that one event tells
    /// of all; the calling thread does not. Streams are not compared here: one name may stand for several
    /// (a stream for each thread, or one destroyed and another created).
    status wait_for_readers(const addresses_type& range, page_index first,
                            const stream_type& stream) noexcept {
        const ticket* last = nullptr;
        for (const page& one : range.pages) {
            if (one.stage != detail::retiring_stage::revived)
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
    status poll() noexcept {
        status failure;
        auto& lanes = book_.lanes();
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

    /// Only tickets up to number `last`. False where there is nothing to wait for.
    result<bool> wait_for_oldest(std::unique_lock<Mutex>& lock, std::uint64_t last) noexcept {
        ticket* const waited = book_.oldest(last);
        if (waited == nullptr)
            return false;
        ++waited->waiters;
        lock.unlock();
        const status outcome = backend().wait(waited->event);
        lock.lock();
        --waited->waiters;
        if (waited->lane == nullptr) { // another thread saw that it had happened
            if (waited->waiters == 0)
                book_.spare_tickets.keep(*waited);
            return true;
        }
        if (!outcome)
            return outcome;
        book_.settle(*waited);
        return true;
    }

    /// Neighbours in one call, until `enough` pages are given back.
    status unmap_due(page_count enough, page_count& reclaimed) noexcept {
        status failure;
        auto& due = book_.due();
        auto next = due.begin();
        while (next != due.end() && reclaimed < enough) {
            const page& first = *next;
            const addresses_type& range = *first.range;
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
                pool_->release(gone.chunk);
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

    pool_type* pool_;
    mutable Mutex mutex_;
    book_type book_;
    std::size_t events_ = 0;
};

} // namespace vtensor
