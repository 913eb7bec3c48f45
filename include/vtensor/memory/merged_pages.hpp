// SPDX-License-Identifier: Apache-2.0
//
// Pages of two ranges that hold the same become one: those of the one range get the chunks of the other, and
// its own go back to the pool. In steps that can be taken back, so that it can be part of a larger operation.
// That they hold the same is said by the caller: no byte is looked at.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/page_exchange.hpp>
#include <vtensor/memory/retiring_range.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace vtensor::detail {

/// Used once, by the thread that uses both ranges: `run`, then `finish`, which cannot fail, or `undo`.
template <class Range>
class merged_pages {
  public:
    using pool_type = typename Range::pool_type;
    using chunk = typename pool_type::chunk;
    using stream_type = stream_of<pool_type>;

    /// Both are on one pool.
    merged_pages(Range& to, Range& from) noexcept : to_{&to}, from_{&from} {}

    /// The first `whole` pages, which both ranges have and may touch, have the same chunks in both, those of
    /// `from`, and are read-only in both; or nothing changed. Pages that have the same chunk already need no
    /// call. Nothing may use the pages of `to` meanwhile, or write those of `from`: what is queued on the
    /// stream is waited for, on the host. `out_of_memory` for the tables. O(pages of both ranges).
    [[nodiscard]] status run(page_count whole, const stream_type* stream) noexcept {
        const auto chunks_of = [&](const auto& pages) {
            return pages.tail(page_count{}).first(whole.count());
        };
        const std::span<const chunk> given =
            from_->plan(chunks_of); // stay where they are while these pages do
        const std::span<const chunk> own = to_->plan(chunks_of);
        if (std::equal(given.begin(), given.end(), own.begin()))
            return {};
        if (const status outcome = prepare(given, own); !outcome)
            return outcome;
        if (const status outcome = from_->exchange(protection_, stream); !outcome)
            return outcome;
        for_each_replaced([&](std::size_t page) { pool().retain(replacement_.after()[page]); });
        const status outcome = to_->exchange(replacement_, stream);
        done_ = true;
        if (!outcome)
            take_back();
        return outcome;
    }

    /// The replaced chunks lose the reference that this range had.
    void finish() noexcept {
        if (!done_)
            return;
        for_each_replaced([&](std::size_t page) { pool().release(replacement_.before()[page]); });
        done_ = false;
    }
    /// The pages are as before; but where the backend refused twice to put one back, which is then the first
    /// of `to` that is not accessible any more. Directly after `run`.
    void undo() noexcept {
        if (!done_)
            return;
        to_->undo_exchange(replacement_, nullptr);
        take_back();
    }

  private:
    [[nodiscard]] pool_type& pool() const noexcept { return to_->pool(); }

    status prepare(std::span<const chunk> given, std::span<const chunk> own) noexcept {
        status outcome =
            from_->plan([&](const auto& pages) { return protection_.start(pages, verb::share); });
        if (outcome)
            outcome = to_->plan([&](const auto& pages) { return replacement_.start(pages, verb::share); });
        if (!outcome)
            return outcome;
        for (std::size_t page = 0; page < given.size(); ++page) {
            if (given[page] == own[page])
                continue;
            protection_.set(page, given[page], true);
            replacement_.set(page, given[page], true);
        }
        return {};
    }
    /// From the last one down, so that the pool hands the chunks out again in page order.
    template <class Visit>
    void for_each_replaced(Visit visit) const noexcept {
        for (std::size_t page = replacement_.after().size(); page-- > 0;) {
            if (replacement_.after()[page] != replacement_.before()[page])
                visit(page);
        }
    }
    /// The other half of an undo. Chunks that may still lie behind a page, because the backend refused to
    /// unmap them, keep their references for ever.
    void take_back() noexcept {
        if (!replacement_.is_lost())
            for_each_replaced([&](std::size_t page) { pool().release(replacement_.after()[page]); });
        from_->undo_exchange(protection_, nullptr);
        done_ = false;
    }

    Range* to_;
    Range* from_;
    page_exchange<typename pool_type::backend_type> protection_;  ///< in `from_`: read-only
    page_exchange<typename pool_type::backend_type> replacement_; ///< in `to_`
    bool done_ = false;
};

} // namespace vtensor::detail
