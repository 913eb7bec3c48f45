// SPDX-License-Identifier: Apache-2.0
//
// A mapped range on a backend with streams: pages may be given up while queued work still reads them, and are
// taken back, still mapped, where the range grows over them before they are unmapped. When a page may be
// unmapped is known to retire_queue.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/mapped_range.hpp>
#include <vtensor/memory/retire_queue.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <utility>

namespace vtensor {

/// Used by one thread at a time, as `mapped_range`; other threads may reclaim its retiring pages meanwhile.
///
/// A page is never unmapped before the events recorded behind the work that reads it, whichever way it is
/// given up: also when it was revived in between, and also by the destructor.
template <class Pool>
class retiring_range : private mapped_range<Pool> {
    using base = mapped_range<Pool>;

  public:
    using typename base::backend_type;
    using typename base::chunk;
    using stream_type = typename backend_type::stream_type;

    [[nodiscard]] static result<retiring_range> create(Pool& pool, page_count limit,
                                                       owner_id owner) noexcept {
        auto range = base::create(pool, limit, owner);
        if (!range)
            return range.error();
        auto entry = queue_type::enter(range->start(), range->page_size());
        if (!entry)
            return entry.error();
        return retiring_range{*std::move(range), *std::move(entry)};
    }

    retiring_range(retiring_range&&) noexcept = default;
    retiring_range& operator=(retiring_range&&) = delete;
    /// Does not wait. What queued work reads stays mapped until it is done, the addresses with it; the rest
    /// is unmapped as by `mapped_range`.
    ~retiring_range() {
        if (!entry_)
            return;
        if (!take_back(page_count{}))
            addresses_.forget();
        queue().leave(std::move(entry_), std::move(addresses_));
    }

    using base::accessible;
    using base::finish_exchange;
    using base::limit;
    using base::mapped;
    using base::owner;
    using base::page_size;
    using base::pages;
    using base::pool;
    using base::reserved_bytes;
    using base::start;

    /// Pages given up and not unmapped yet.
    [[nodiscard]] page_count retiring() const noexcept { return queue().retiring(*entry_); }
    /// O(pages retiring).
    [[nodiscard]] page_state state(page_index page) const noexcept {
        if (page >= page_index{} + mapped() && queue().is_retiring(*entry_, page))
            return page_state::retiring;
        return pages_.state(page);
    }

    /// Makes at least `count` pages accessible, or changes nothing. Pages that retire are taken back without
    /// a call of the backend; shared ones are not, and are waited for. Where memory or mappings are short,
    /// what no work reads any more is unmapped before it is said so.
    [[nodiscard]] status grow_to(page_count count) noexcept {
        if (count > limit() || count <= accessible())
            return base::grow_to(count);
        for (;;) {
            const status outcome = try_grow_to(count);
            if (outcome || !is_shortage(outcome.code()))
                return outcome;
            page_count reclaimed{};
            static_cast<void>(queue().reclaim(queue_type::every_page, reclaimed));
            if (reclaimed == page_count{})
                return outcome;
        }
    }

    /// Gives the pages from `count` on up, or changes nothing. The caller says that nothing queued since they
    /// were grown reads them: they are unmapped now, except what earlier work reads, if they were revived.
    [[nodiscard]] status shrink_to(page_count count) noexcept {
        if (count >= mapped())
            return {};
        if (!queue().still_read(*entry_, page_index{} + count))
            return base::shrink_to(count);
        return leave_to_queue(count, queue().give_up(*entry_, run_from(count)));
    }

    /// The pages from `count` on retire: they stay mapped for what is queued on the stream now. Or nothing
    /// changes.
    [[nodiscard]] status retire_to(page_count count, const stream_type& stream) noexcept {
        if (count >= mapped())
            return {};
        return leave_to_queue(count, queue().retire(*entry_, run_from(count), stream));
    }

    /// How many pages `grow_to` makes accessible without waiting.
    [[nodiscard]] page_count grows_without_waiting() const noexcept {
        return queue().first_read_only(*entry_, page_index{} + limit()) - page_index{};
    }

    /// As `mapped_range::map_shared`, once none of the pages given up earlier is mapped any more: waits on
    /// the host for that.
    [[nodiscard]] status map_shared(std::span<const chunk> shared) noexcept {
        const status outcome =
            queue().clear(*entry_, page_index{}, page_index{} + page_count{shared.size()}, false);
        return outcome ? base::map_shared(shared) : outcome;
    }

    /// As `mapped_range::exchange`, once nothing uses the pages that are taken away any more: waits on the
    /// host for what is queued on the stream, where one is given, and for who read them before they were
    /// revived.
    [[nodiscard]] status exchange(page_exchange<backend_type>& moved, const stream_type* stream) noexcept {
        if (moved.takes_none())
            return base::exchange(moved);
        if (stream != nullptr) {
            if (const status outcome = queue().wait_for(*stream); !outcome)
                return outcome;
        }
        if (const status outcome = queue().wait_for_readers(*entry_, moved.first_taken()); !outcome)
            return outcome;
        return base::exchange(moved);
    }
    /// `stream` is where rows were moved meanwhile, if any were.
    void undo_exchange(page_exchange<backend_type>& moved, const stream_type* stream) noexcept {
        if (stream != nullptr && !queue().wait_for(*stream))
            static_cast<void>(queue().wait_for(*stream));
        base::undo_exchange(moved);
    }

    /// Waits for the pages that have been retiring longest, of any range on the pool. False where there are
    /// none, or where waiting failed.
    [[nodiscard]] bool wait_for_retiring() noexcept {
        const result<bool> waited = queue().wait_oldest();
        return waited && *waited;
    }

    /// As `mapped_range`, and the retiring and revived pages with it.
    [[nodiscard]] bool verify() const noexcept {
        return base::verify() && queue().verify(*entry_, page_index{} + mapped(), page_index{} + limit(),
                                                [this](page_index page) { return pages_[page]; });
    }

  private:
    using base::addresses_;
    using base::at;
    using base::backend;
    using base::owner_;
    using base::pages_;
    using queue_type = typename Pool::retire_queue_type;
    using page_run = typename queue_type::page_run;

    retiring_range(base&& range, std::unique_ptr<typename queue_type::addresses_type> entry) noexcept
        : base{std::move(range)}, entry_{std::move(entry)} {}

    [[nodiscard]] queue_type& queue() const noexcept { return pool().retiring(); }

    [[nodiscard]] page_run run_from(page_count first) const noexcept {
        return {page_index{} + first, pages_.tail(first),
                accessible() > first ? accessible() - first : page_count{}, pages_.read_only(first)};
    }
    status leave_to_queue(page_count first, const status& outcome) noexcept {
        if (outcome)
            pages_.cut(first);
        return outcome;
    }

    status try_grow_to(page_count count) noexcept {
        const page_count before = accessible();
        if (const status outcome = drop_shared(count); !outcome)
            return outcome;
        const page_count first = mapped();
        if (first == before && retiring() == page_count{})
            return base::grow_to(count);
        const auto room = pages_.prepare(count > first ? count - first : page_count{});
        if (!room)
            return room.error();
        const bool touchable = queue().claim(*entry_, page_index{} + first, *room);
        std::size_t created = 0;
        const status outcome = fill(*room, touchable, created);
        if (outcome) {
            base::hand_over(before);
            pages_.open();
        } else {
            queue().unclaim(*entry_, page_index{} + mapped());
            static_cast<void>(take_back(before));
            pool().discard(created);
        }
        queue().revive(*entry_); // after a failure: what lies below pages that could not be unmapped
        return outcome;
    }

    /// A growth to `count` pages takes no shared ones back: neither those that retire nor those that an undo
    /// left behind.
    status drop_shared(page_count count) noexcept {
        if (pages_.read_only_end() > accessible()) {
            if (const status outcome = shrink_to(accessible()); !outcome)
                return outcome;
        }
        if (retiring() == page_count{})
            return {};
        return queue().clear(*entry_, page_index{}, page_index{} + count, /* read_only */ true);
    }

    /// Maps what is missing between the claimed pages, whose chunks are in `room`, and makes accessible what
    /// is not. On failure what was done is entered in the map, for `take_back`.
    status fill(std::span<chunk> room, bool touchable, std::size_t& created) noexcept {
        page_count opened = accessible();
        for (std::size_t index = 0; index < room.size();) {
            const bool claimed = static_cast<bool>(room[index]);
            std::size_t end = index;
            while (end < room.size() && static_cast<bool>(room[end]) == claimed)
                ++end;
            const page_count count{end - index};
            if (!claimed) {
                if (const status outcome = map_gap(room.subspan(index, end - index), created); !outcome)
                    return outcome;
            } else if (touchable) {
                if (const status outcome = open(opened); !outcome)
                    return outcome;
                pages_.add(count);
                opened = mapped();
            } else {
                pages_.add(count);
            }
            index = end;
        }
        return open(opened);
    }
    status map_gap(std::span<chunk> gap, std::size_t& created) noexcept {
        std::size_t fresh = 0;
        if (const status outcome = pool().acquire(gap, owner_, fresh); !outcome)
            return outcome;
        created += fresh;
        return base::map_acquired(gap);
    }
    /// One call for the mapped pages from `first` on.
    status open(page_count first) noexcept {
        if (first == mapped())
            return {};
        return backend().set_access(at(first), (mapped() - first) * page_size(), access_mode::read_write);
    }

    /// Gives the pages from `before` on back, from the end: to the queue what queued work may read, to the
    /// pool the rest. Where unmapping fails twice, the pages from there down stay.
    status take_back(page_count before) noexcept {
        while (mapped() > before) {
            const auto tail = queue().take_tail(*entry_, page_index{} + before, page_index{} + mapped());
            const page_count kept = tail.first - page_index{};
            if (tail.retiring) {
                pages_.cut(kept);
                continue;
            }
            status outcome = base::shrink_to(kept);
            if (!outcome)
                outcome = base::shrink_to(kept);
            if (!outcome)
                return outcome;
        }
        return {};
    }

    std::unique_ptr<typename queue_type::addresses_type> entry_;
};

namespace detail {

/// Pages retire on pools like this.
template <class Pool>
concept has_streams = stream_ordered_backend<typename Pool::backend_type>;

/// Stands for the streams of a backend that has none.
struct no_stream {};

template <class Pool>
struct on_pool {
    using range = mapped_range<Pool>;
    using stream = no_stream;
};
template <has_streams Pool>
struct on_pool<Pool> {
    using range = retiring_range<Pool>;
    using stream = typename Pool::backend_type::stream_type;
};

template <class Pool>
using stream_of = typename on_pool<Pool>::stream;

} // namespace detail

/// The range of a pool's backend: pages retire where it has streams.
template <class Pool>
using page_range = typename detail::on_pool<Pool>::range;

} // namespace vtensor
