// SPDX-License-Identifier: Apache-2.0
//
// Chunks that are filled at addresses of their own before they are put behind a page: so that a page can be
// replaced by a copy of itself.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/mapped_range.hpp>

#include <cstddef>
#include <span>
#include <utility>

namespace vtensor::detail {

/// Used once: `create`, whose pages may be written; `take_out`; then the chunks are the caller's.
template <class Pool>
class scratch_pages : private mapped_range<Pool> {
    using base = mapped_range<Pool>;

  public:
    using typename base::chunk;

    /// `count` pages, for data of that owner; or nothing changes.
    [[nodiscard]] static result<scratch_pages> create(Pool& pool, page_count count, owner_id owner) noexcept {
        auto addresses = base::create(pool, count, owner);
        if (!addresses)
            return addresses.error();
        scratch_pages made{*std::move(addresses)};
        if (const status outcome = made.fill(count); !outcome)
            return outcome;
        return made;
    }
    scratch_pages(scratch_pages&& other) noexcept
        : base{std::move(static_cast<base&>(other))},
          created_{std::exchange(other.created_, 0)},
          taken_{std::exchange(other.taken_, true)} {}
    scratch_pages& operator=(scratch_pages&&) = delete;
    /// What was not taken out goes back to the pool.
    ~scratch_pages() {
        if (!taken_ && !base::shrink_to(page_count{}) && !base::shrink_to(page_count{}))
            abandon();
        if (!taken_)
            base::pool().discard(created_);
    }

    using base::start;

    /// Unmaps the pages and gives their chunks, each with its reference, to the caller; or changes nothing.
    [[nodiscard]] status take_out(std::span<chunk> chunks) noexcept {
        const auto filled = base::pages().tail(page_count{});
        for (std::size_t page = 0; page < filled.size(); ++page) {
            chunks[page] = filled[page];
            base::pool().retain(filled[page]);
        }
        const status outcome = base::shrink_to(page_count{});
        taken_ = outcome.ok();
        if (!taken_)
            base::give_back(chunks);
        else
            static_cast<void>(base::addresses_.release()); // the destructor tries again
        return outcome;
    }
    /// How many of the chunks the backend had to create.
    [[nodiscard]] std::size_t created() const noexcept { return created_; }

    /// Queued work may write here for ever: the pages stay mapped, with chunks and addresses out of
    /// everybody's reach.
    void abandon() noexcept {
        base::pages_.cut(page_count{});
        base::addresses_.forget();
        created_ = 0;
    }

  private:
    explicit scratch_pages(base&& range) noexcept : base{std::move(range)} {}

    status fill(page_count count) noexcept {
        status outcome = base::map_more(count, created_);
        if (outcome)
            outcome = base::backend().set_access(start(), count * base::page_size(), access_mode::read_write);
        if (!outcome)
            return outcome; // the destructor takes it back
        base::hand_over(page_count{});
        base::pages_.open();
        return {};
    }

    std::size_t created_ = 0;
    bool taken_ = false;
};

} // namespace vtensor::detail
