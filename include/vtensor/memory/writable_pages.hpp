// SPDX-License-Identifier: Apache-2.0
//
// Copy-on-write: read-only pages of a range become writable. A page whose chunk nobody else holds gets its
// access back; any other is replaced by a copy of itself. In steps that can be taken back, so that it can be
// part of a larger operation.
#pragma once

#include <vtensor/core/abilities.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/copied_bytes.hpp>
#include <vtensor/memory/page_exchange.hpp>
#include <vtensor/memory/scratch_pages.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <vector>

namespace vtensor {

/// Used once, by the thread that uses the range: `want`, then `run`, then `finish`, which cannot fail, or
/// `undo`. Without a stream the CPU copies, and nothing queued may use the pages. With one the copies are
/// queued on it and waited for, on the host.
template <class Range>
class writable_pages {
  public:
    using pool_type = typename Range::pool_type;
    using chunk = typename pool_type::chunk;
    using stream_type = detail::stream_of<pool_type>;

    explicit writable_pages(Range& range) noexcept : range_{&range} {}

    /// The pages [first, last) are to be writable. `out_of_memory` for the table.
    [[nodiscard]] status want(page_count first, page_count last) noexcept {
        last = std::min(last, range_->read_only_end());
        if (first >= last)
            return {};
        try {
            if (wanted_.size() < last.count())
                wanted_.resize(last.count());
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::make_writable, 0, bytes{last.count()}};
        }
        std::fill(wanted_.begin() + static_cast<std::ptrdiff_t>(first.count()),
                  wanted_.begin() + static_cast<std::ptrdiff_t>(last.count()), std::uint8_t{1});
        return {};
    }

    /// Makes the wanted pages writable, or changes nothing. `unsupported` where pages must be copied and
    /// nobody can. O(pages of the range).
    [[nodiscard]] status run(const stream_type* stream) noexcept {
        if (wanted_.empty())
            return {};
        if (const status outcome = plan(); !outcome)
            return outcome;
        if (copied_.empty() && adopted_.empty())
            return {};
        if (const status outcome = copied_.empty() ? status{} : make_copies(stream); !outcome)
            return outcome;
        const status outcome = range_->exchange(pages_, nullptr); // what is taken was waited for
        done_ = outcome.ok();
        if (!done_)
            give_copies_back();
        return outcome;
    }

    /// Who shared the replaced pages has them alone now.
    void finish() noexcept {
        if (!done_)
            return;
        for (std::size_t index = replaced_.size(); index-- > 0;)
            pool().release(replaced_[index]);
        for (const chunk& held : adopted_)
            pool().adopt(held, range_->owner());
        done_ = false;
    }
    /// The pages are as before; but where the backend refused twice to put one back, which is then the first
    /// that is not accessible any more. `stream` is where they were written meanwhile, if they were.
    void undo(const stream_type* stream = nullptr) noexcept {
        if (!done_)
            return;
        range_->undo_exchange(pages_, stream);
        give_copies_back();
        done_ = false;
    }

  private:
    [[nodiscard]] pool_type& pool() const noexcept { return range_->pool(); }

    /// Which pages are copied, and which only get their access back.
    status plan() noexcept {
        return range_->plan([this](const auto& pages) -> status {
            if (const status outcome = pages_.start(pages, verb::make_writable); !outcome)
                return outcome;
            try {
                const std::size_t end = std::min(wanted_.size(), pages.accessible().count());
                for (std::size_t page = 0; page < end; ++page) {
                    if (wanted_[page] == 0 || !pages.is_read_only(page_index{page}))
                        continue;
                    const chunk behind = pages[page_index{page}];
                    if (pool().references(behind) == 1) {
                        adopted_.push_back(behind);
                        pages_.set(page, behind, false);
                    } else {
                        copied_.push_back(page);
                        replaced_.push_back(behind);
                    }
                }
                copies_.resize(copied_.size());
            } catch (const std::bad_alloc&) {
                return error{errc::out_of_memory, verb::make_writable, 0, bytes{wanted_.size()}};
            }
            return {};
        });
    }

    /// Copies of the pages in chunks that lie nowhere.
    status make_copies(const stream_type* stream) noexcept {
        if (stream == nullptr && !detail::reaches_memory(pool().backend()))
            return error{errc::unsupported, verb::make_writable, 0, bytes{0}};
        auto scratch =
            detail::scratch_pages<pool_type>::create(pool(), page_count{copied_.size()}, range_->owner());
        if (!scratch)
            return scratch.error();
        if (const status outcome = fill(scratch->start(), stream); !outcome) {
            if (stream != nullptr && !wait_for(*stream) && !wait_for(*stream))
                scratch->abandon();
            return outcome;
        }
        if (const status outcome = scratch->take_out(copies_); !outcome)
            return outcome;
        created_ = scratch->created();
        for (std::size_t index = 0; index < copied_.size(); ++index)
            pages_.set(copied_[index], copies_[index], false);
        return {};
    }
    /// One copy for each run of neighbours; when it returns they are done.
    status fill(address to, const stream_type* stream) noexcept {
        const bytes page = range_->page_size();
        for (std::size_t first = 0, last; first < copied_.size(); first = last) {
            last = first + 1;
            while (last < copied_.size() && copied_[last] == copied_[first] + (last - first))
                ++last;
            if (const status outcome =
                    detail::copy_bytes(pool(), to + page * first, range_->start() + page * copied_[first],
                                       page * (last - first), stream);
                !outcome)
                return outcome;
        }
        return stream != nullptr ? wait_for(*stream) : status{};
    }
    status wait_for([[maybe_unused]] const stream_type& stream) noexcept {
        if constexpr (detail::has_streams<pool_type>)
            return pool().retiring().wait_for(stream);
        else
            return {};
    }
    /// Copies that may still lie behind a page, because the backend refused to unmap them, are kept for ever.
    void give_copies_back() noexcept {
        if (pages_.is_lost())
            return;
        for (std::size_t index = copies_.size(); index-- > 0;)
            pool().release(copies_[index]);
        pool().discard(created_);
    }

    Range* range_;
    std::vector<std::uint8_t> wanted_; ///< by page
    std::vector<std::size_t> copied_;  ///< pages, ascending
    std::vector<chunk> replaced_;      ///< the chunks behind them
    std::vector<chunk> copies_;        ///< those that come in their place
    std::vector<chunk> adopted_;       ///< chunks of the pages that only get their access back
    page_exchange<typename pool_type::backend_type> pages_;
    std::size_t created_ = 0;
    bool done_ = false;
};

} // namespace vtensor
