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
#include <vtensor/memory/retire_types.hpp>
#include <vtensor/memory/retire_work.hpp>

#include <cstddef>
#include <cstdint>
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
    using lane = detail::retire_lane<Backend>;

  public:
    using pool_type = chunk_pool<Backend, Mutex>;
    using stream_type = typename Backend::stream_type;
    using chunk = pooled_chunk<Backend>;
    using addresses_type = detail::retiring_addresses<Backend>;
    using page_run = detail::page_run<Backend>;

    static constexpr page_count every_page = detail::retire_work<Backend, pool_type>::every_page;

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
        const status polled = work_.poll();
        const status unmapped = work_.unmap_due(enough, reclaimed);
        return polled ? unmapped : polled;
    }

    /// Waits for the first recorded of the events that pages retire behind, and unmaps what is due then.
    /// False where there is none. A failed wait leaves everything queued. Other threads may use the queue
    /// meanwhile.
    [[nodiscard]] result<bool> wait_oldest() noexcept {
        std::unique_lock lock{mutex_};
        const result<bool> waited = work_.wait_for_oldest(lock, book_.tickets.last_number());
        if (waited && *waited)
            work_.unmap_all_due();
        return waited;
    }

    /// Waits for everything that is queued now, and unmaps it. Not for a hot path. After a failure a later
    /// call goes on where this one stopped.
    [[nodiscard]] status drain() noexcept {
        std::unique_lock lock{mutex_};
        const std::uint64_t last = book_.tickets.last_number();
        for (;;) {
            const result<bool> waited = work_.wait_for_oldest(lock, last);
            if (!waited)
                return waited.status();
            if (!*waited)
                break;
        }
        page_count reclaimed{};
        return work_.unmap_due(every_page, reclaimed);
    }

    [[nodiscard]] retire_stats stats() const noexcept {
        const std::lock_guard lock{mutex_};
        retire_stats figures = book_.stats();
        figures.events = work_.events();
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
            static_cast<void>(work_.poll()); // what has happened meanwhile need not be waited for
        lane* const known = book_.tickets.find_lane(stream);
        if (const status outcome = work_.make_spares(run.chunks.size(), known == nullptr ? &stream : nullptr);
            !outcome)
            return outcome;
        if (const status outcome = work_.wait_for_readers(range, run.first, stream); !outcome)
            return outcome;
        if (const status outcome = backend().record(book_.tickets.spare_tickets.next().event, stream);
            !outcome)
            return outcome;
        ticket& recorded =
            book_.tickets.add_ticket(known != nullptr ? *known : book_.tickets.add_lane(stream));
        book_.give_up(range, run, &recorded);
        return {};
    }

    /// The run is given up, and nothing queued since it was grown reads it. What earlier work reads waits for
    /// that work; the rest is unmapped now, or where the backend refuses by a later `reclaim`. Fails only
    /// where there is no memory for book-keeping, and changes nothing then.
    [[nodiscard]] status give_up(addresses_type& range, const page_run& run) noexcept {
        const std::lock_guard lock{mutex_};
        if (const status outcome = work_.make_spare_pages(run.chunks.size()); !outcome)
            return outcome;
        book_.give_up(range, run, nullptr);
        work_.unmap_all_due();
        return {};
    }

    /// Whether work that was queued before a page was revived may still read one from `first` on.
    [[nodiscard]] bool still_read(const addresses_type& range, page_index first) noexcept {
        const std::lock_guard lock{mutex_};
        if (!book_.is_read(range, first))
            return false;
        static_cast<void>(work_.poll());
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

    /// Waits on the host for what is queued on the stream now.
    [[nodiscard]] status wait_for(const stream_type& stream) noexcept {
        std::unique_lock lock{mutex_};
        return work_.wait_for_stream(lock, stream);
    }
    /// Waits until no work that was queued before a page from `first` on was revived reads it.
    [[nodiscard]] status wait_for_readers(const addresses_type& range, page_index first) noexcept {
        std::unique_lock lock{mutex_};
        while (auto* const waited = book_type::reader(range, first)) {
            if (const status outcome = work_.wait_for_ticket(lock, *waited); !outcome)
                return outcome;
        }
        return {};
    }

    /// Waits until none of the pages [first, end) retires any more, of all or of those that are read-only,
    /// and unmaps them: where something else is to be mapped.
    [[nodiscard]] status clear(const addresses_type& range, page_index first, page_index end,
                               bool read_only) noexcept {
        std::unique_lock lock{mutex_};
        while (const page* const one = book_type::retiring(range, first, end, read_only)) {
            page_count reclaimed{};
            const status outcome = one->ticket != nullptr ? work_.wait_for_ticket(lock, *one->ticket)
                                                          : work_.unmap_due(every_page, reclaimed);
            if (!outcome && reclaimed == page_count{})
                return outcome;
        }
        return {};
    }
    /// The first page that retires and is read-only, so that a growth over it would wait; `otherwise` where
    /// there is none.
    [[nodiscard]] page_index first_read_only(const addresses_type& range,
                                             page_index otherwise) const noexcept {
        const std::lock_guard lock{mutex_};
        const page* const one = book_type::retiring(range, page_index{}, otherwise, true);
        return one != nullptr ? one->index : otherwise;
    }

    [[nodiscard]] page_count retiring(const addresses_type& range) const noexcept {
        const std::lock_guard lock{mutex_};
        return page_count{range.retiring};
    }
    [[nodiscard]] bool is_retiring(const addresses_type& range, page_index wanted) const noexcept {
        const std::lock_guard lock{mutex_};
        return book_type::is_retiring(range, wanted);
    }

    /// Checks the entry against its range, whose pages end at `mapped`, O(pages): in page order, each with a
    /// chunk that is in use, revived where it is the range's, otherwise retiring.
    template <class ChunkOf>
    [[nodiscard]] bool verify(const addresses_type& range, page_index mapped, page_index limit,
                              ChunkOf chunk_of) const noexcept {
        const std::lock_guard lock{mutex_};
        return book_type::verify(range, mapped, limit, [&](const page& one, bool owned) {
            return one.chunk && pool_->references(one.chunk) > 0 &&
                   (!owned || one.chunk == chunk_of(one.index));
        });
    }

    // ---- for the pool ----

    /// Waits for what is queued, unmaps it and destroys the events, trying twice whatever fails. Pages for
    /// which that is not enough stay mapped for ever, with their chunks and addresses out of everybody's
    /// reach.
    void close() noexcept {
        const std::lock_guard lock{mutex_};
        work_.close();
    }

  private:
    [[nodiscard]] Backend& backend() const noexcept { return pool_->backend(); }

    pool_type* pool_;
    mutable Mutex mutex_;
    book_type book_;
    detail::retire_work<Backend, pool_type> work_{*pool_, book_};
};

} // namespace vtensor
