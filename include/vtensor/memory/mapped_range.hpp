// SPDX-License-Identifier: Apache-2.0
//
// A reserved range that grows and shrinks at its end by whole pages: takes chunks from a pool, maps them,
// makes them accessible, and undoes all of it when a step fails. It decides nothing: how many pages is said
// by the caller. On a backend with streams retiring_range.hpp is built on it.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/memory/page_exchange.hpp>
#include <vtensor/memory/page_map.hpp>
#include <vtensor/memory/reservation.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <span>

namespace vtensor {

/// Addresses from one backend, pages from one pool. Page p lies at start() + p · page_size() for the whole
/// life of the range. Used by one thread at a time; the pool may be shared.
template <class Pool>
class mapped_range {
  public:
    using backend_type = typename Pool::backend_type;
    using chunk = typename Pool::chunk;

    /// Reserves addresses for `limit` pages. Nothing is mapped yet.
    [[nodiscard]] static result<mapped_range> create(Pool& pool, page_count limit, owner_id owner) noexcept {
        constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
        if (limit.count() > most / pool.chunk_size().count())
            return error{errc::out_of_addresses, verb::reserve, 0, bytes{most}};
        auto addresses = reservation<backend_type>::create(pool.backend(), limit * pool.chunk_size());
        if (!addresses)
            return addresses.error();
        return mapped_range{pool, *std::move(addresses), limit, owner};
    }

    mapped_range(mapped_range&&) noexcept = default;
    mapped_range& operator=(mapped_range&&) = delete;
    ~mapped_range() {
        if (!addresses_)
            return;
        // A passing failure is met by a second try. Pages that cannot be unmapped keep their chunks and
        // addresses for ever: reusing either would let two owners see the same memory.
        if (!shrink_to(page_count{}) && !shrink_to(page_count{}))
            addresses_.forget();
    }

    [[nodiscard]] address start() const noexcept { return addresses_.start(); }
    [[nodiscard]] bytes reserved_bytes() const noexcept { return addresses_.size(); }
    [[nodiscard]] bytes page_size() const noexcept { return pool_->chunk_size(); }
    [[nodiscard]] page_count limit() const noexcept { return limit_; }
    /// Pages that may be touched.
    [[nodiscard]] page_count accessible() const noexcept { return pages_.accessible(); }
    /// Pages with a chunk behind them. More than `accessible()` only after an undo that the backend refused
    /// twice.
    [[nodiscard]] page_count mapped() const noexcept { return pages_.mapped(); }
    [[nodiscard]] const page_map<backend_type>& pages() const noexcept { return pages_; }
    [[nodiscard]] Pool& pool() const noexcept { return *pool_; }
    [[nodiscard]] owner_id owner() const noexcept { return owner_; }

    /// Makes at least `count` pages accessible, or changes nothing. One `set_access` for the whole run.
    /// O(pages).
    [[nodiscard]] status grow_to(page_count count) noexcept {
        if (count > limit())
            return error{errc::limit_exceeded, verb::grow, 0, count * page_size()};
        const page_count before = pages_.accessible();
        if (count <= before)
            return {};
        // Shared pages that an undo could not unmap must not become accessible by growing.
        if (pages_.read_only_end() > before) {
            if (const status outcome = shrink_to(before); !outcome)
                return outcome;
        }
        std::size_t created = 0;
        status outcome = map_more(count, created);
        if (outcome)
            outcome = backend().set_access(at(before), (pages_.mapped() - before) * page_size(),
                                           access_mode::read_write);
        if (!outcome) {
            undo_to(before);
            pool_->discard(created);
            return outcome;
        }
        hand_over(before);
        pages_.open();
        return {};
    }

    /// Unmaps the pages from `count` on, in one call, and gives their chunks back; or changes nothing.
    [[nodiscard]] status shrink_to(page_count count) noexcept {
        if (count >= pages_.mapped())
            return {};
        const status outcome = backend().unmap(at(count), (pages_.mapped() - count) * page_size());
        if (!outcome)
            return outcome;
        give_back(pages_.tail(count));
        pages_.cut(count);
        return {};
    }

    /// Maps the chunks of another range of the pool as the first pages of this one, which has none, read-only
    /// here as they are there: or changes nothing.
    [[nodiscard]] status map_shared(std::span<const chunk> shared) noexcept {
        VTENSOR_ASSERT(mapped() == page_count{});
        const auto room = pages_.prepare(page_count{shared.size()});
        if (!room)
            return room.error();
        for (std::size_t page = 0; page < shared.size(); ++page) {
            (*room)[page] = shared[page];
            pool_->retain(shared[page]);
        }
        status outcome = map_acquired(*room, true);
        if (outcome)
            outcome = backend().set_access(start(), shared.size() * page_size(), access_mode::read);
        if (outcome)
            pages_.open();
        else
            undo_to(page_count{});
        return outcome;
    }

    /// Lets the pages change as it was prepared, or changes nothing. Where the backend refuses twice
    /// to put a page back, the pages from there on stay mapped and are not accessible any more.
    [[nodiscard]] status exchange(page_exchange<backend_type>& moved) noexcept {
        const status outcome = moved.run(backend(), start(), page_size());
        if (outcome)
            pages_.replace(moved.after(), moved.read_only_after(), page_count{moved.after().size()},
                           moved.accessible_after());
        else
            undo_exchange(moved);
        return outcome;
    }
    void undo_exchange(page_exchange<backend_type>& moved) noexcept {
        const page_count intact = moved.run_back();
        // What a growth mapped meanwhile and could not unmap again stays.
        const page_count mapped = std::max(page_count{moved.before().size()}, pages_.mapped());
        pages_.replace(moved.before(), moved.read_only_before(), mapped,
                       std::min(moved.accessible_before(), intact));
    }
    /// It is not going to be undone: the chunks that lie nowhere any more go back to the pool.
    void finish_exchange(const page_exchange<backend_type>& moved) noexcept { give_back(moved.displaced()); }

    /// Checks the range's book-keeping against its pool's, O(pages): every mapped page has a chunk that is in
    /// use, and one that may be written has a chunk that is nobody else's.
    [[nodiscard]] bool verify() const noexcept {
        if (pages_.accessible() > pages_.mapped() || pages_.mapped() > limit())
            return false;
        const auto chunks = pages_.tail(page_count{});
        for (std::size_t page = 0; page < chunks.size(); ++page) {
            const std::size_t references = chunks[page] ? pool_->references(chunks[page]) : 0;
            const bool writable = page_count{page} < accessible() && !pages_.is_read_only(page_index{page});
            if (references == 0 || (writable && references > 1))
                return false;
        }
        return true;
    }

  protected:
    mapped_range(Pool& pool, reservation<backend_type>&& addresses, page_count limit, owner_id owner) noexcept
        : pool_{&pool}, addresses_{std::move(addresses)}, limit_{limit}, owner_{owner} {}

    [[nodiscard]] backend_type& backend() const noexcept { return pool_->backend(); }
    [[nodiscard]] address at(page_count page) const noexcept {
        return addresses_.start() + page * page_size();
    }

    /// Maps pages behind the mapped ones until there are `count`, not accessible yet; `created` of their
    /// chunks are new. On failure as many as were mapped are entered in the map, for the caller to undo, and
    /// the other chunks are back in the pool.
    status map_more(page_count count, std::size_t& created) noexcept {
        if (count <= pages_.mapped())
            return {};
        const auto room = pages_.prepare(count - pages_.mapped());
        if (!room)
            return room.error();
        const std::span<chunk> chunks = *room;
        if (const status outcome = pool_->acquire(chunks, owner_, created); !outcome)
            return outcome;
        return map_acquired(chunks);
    }
    /// Maps prepared chunks that were acquired as the next pages. On failure as `map_more`.
    status map_acquired(std::span<const chunk> chunks, bool read_only = false) noexcept {
        for (std::size_t index = 0; index < chunks.size(); ++index) {
            if (const status outcome = backend().map(at(pages_.mapped()), chunks[index].handle()); !outcome) {
                give_back(chunks.subspan(index));
                return outcome;
            }
            pages_.add(page_count{1}, read_only);
        }
        return {};
    }

    /// Takes back what a failed growth mapped. Pages whose unmapping fails twice stay mapped, without access
    /// and counted, and serve the next growth.
    void undo_to(page_count before) noexcept {
        if (!shrink_to(before))
            static_cast<void>(shrink_to(before));
    }

    /// Last page first, so that the pool hands the same chunks out again in page order: neighbours stay
    /// neighbours.
    void give_back(std::span<const chunk> chunks) noexcept {
        for (std::size_t index = chunks.size(); index-- > 0;)
            pool_->release(chunks[index]);
    }

    /// Zeroes what another owner wrote, before the pages from `first` on are shown.
    void hand_over(page_count first) noexcept {
        address where = at(first);
        for (const chunk& behind : pages_.tail(first)) {
            const bool foreign = pool_->needs_scrub(behind);
            if (foreign)
                std::memset(where.to_pointer(), 0, page_size().count());
            pool_->hand_over(behind, foreign);
            where = where + page_size();
        }
    }

    Pool* pool_;
    reservation<backend_type> addresses_;
    page_map<backend_type> pages_;
    page_count limit_;
    owner_id owner_;
};

} // namespace vtensor
