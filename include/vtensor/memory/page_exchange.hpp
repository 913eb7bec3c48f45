// SPDX-License-Identifier: Apache-2.0
//
// Pages of one range that change places: which chunk lies where before and after, the calls that lead there,
// and those that lead back. Whose pages they are and when nobody reads them is known to the ranges.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/memory/page_map.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace vtensor {

/// Used once, by the thread that uses the range: `prepare`, then `run`, then, if need be, `run_back`. The
/// pages that are given up keep their chunks in `displaced()` until the exchange is over for good.
template <backend Backend>
class page_exchange {
  public:
    using chunk = pooled_chunk<Backend>;

    /// Works out where the chunks go: blocks of `block_pages` pages change places, of all accessible pages
    /// only the first `kept` stay mapped. Calls no backend. `out_of_memory` for the tables. O(pages).
    [[nodiscard]] status prepare(const page_map<Backend>& pages, std::span<const defrag::block_move> moves,
                                 std::size_t block_pages, page_count kept) noexcept {
        const auto mapped = pages.tail(page_count{});
        accessible_ = pages.accessible();
        try {
            before_.assign(mapped.begin(), mapped.end());
            after_ = before_;
            stages_.assign(before_.size(), stage::before);
        } catch (const std::bad_alloc&) {
            const bytes size{before_.size() * (2 * sizeof(chunk) + 1)};
            before_.clear();
            return error{errc::out_of_memory, verb::defragment, 0, size};
        }
        const std::size_t usable = accessible_.count();
        defrag::for_each_exchange(moves, [&](std::size_t from, std::size_t to) {
            for (std::size_t page = 0; page < block_pages; ++page) {
                const std::size_t one = from * block_pages + page;
                const std::size_t other = to * block_pages + page;
                if (one < usable && other < usable) // what is missing at the end holds no row
                    std::swap(after_[one], after_[other]);
            }
        });
        end_ = kept < accessible_ ? kept.count() : before_.size();
        return {};
    }

    /// The first page that changes; `none_changes()` where there is none.
    [[nodiscard]] page_index first() const noexcept { return page_index{next_changing(0)}; }
    [[nodiscard]] bool none_changes() const noexcept { return next_changing(0) == before_.size(); }

    /// Of the pages that are mapped afterwards, the chunks; and before.
    [[nodiscard]] std::span<const chunk> after() const noexcept { return std::span{after_}.first(end_); }
    [[nodiscard]] std::span<const chunk> before() const noexcept { return before_; }
    /// Chunks that lie nowhere afterwards.
    [[nodiscard]] std::span<const chunk> displaced() const noexcept {
        return std::span{after_}.subspan(end_);
    }
    [[nodiscard]] page_count accessible_before() const noexcept { return accessible_; }
    [[nodiscard]] page_count accessible_after() const noexcept {
        return std::min(accessible_, page_count{end_});
    }

    /// Unmaps what changes, one call a run of neighbours; maps it anew; makes each run accessible. Stops at
    /// the first failure: `run_back` is then to be called.
    [[nodiscard]] status run(Backend& backend, address start, bytes page_size) noexcept {
        place_ = {&backend, start, page_size};
        const std::size_t all = before_.size();
        for (std::size_t first = next_changing(0), last; first < all; first = next_changing(last)) {
            last = end_of_run(first, all);
            if (const status outcome = unmap(first, last); !outcome)
                return outcome;
        }
        for (std::size_t first = next_changing(0), last; first < end_; first = next_changing(last)) {
            last = end_of_run(first, end_);
            for (std::size_t page = first; page < last; ++page) {
                if (const status outcome = map(page, after_[page], stage::after); !outcome)
                    return outcome;
            }
            if (const status outcome = open(first, std::min(last, accessible_.count())); !outcome)
                return outcome;
        }
        return {};
    }

    /// Leads back to the state before `run`, trying twice whatever fails. How many pages from the first on
    /// are as before: all, unless the backend refused something twice.
    [[nodiscard]] page_count run_back() noexcept {
        const std::size_t all = before_.size();
        std::size_t intact = all;
        for (std::size_t first = next(stage::after, 0), last; first < all; first = next(stage::after, last)) {
            for (last = first + 1; last < all && stages_[last] == stage::after;)
                ++last;
            if (!twice([&] { return unmap(first, last); }))
                intact = std::min(intact, first);
        }
        for (std::size_t first = next(stage::none, 0), last; first < all; first = next(stage::none, last)) {
            for (last = first; last < all && stages_[last] == stage::none; ++last) {
                if (!twice([&] { return map(last, before_[last], stage::before); }))
                    break;
            }
            const std::size_t opened = std::min(last, accessible_.count());
            if (opened > first && !twice([&] { return open(first, opened); }))
                intact = std::min(intact, first);
            if (last < all && stages_[last] == stage::none) {
                intact = std::min(intact, last);
                ++last;
            }
        }
        return page_count{intact};
    }

  private:
    enum class stage : std::uint8_t { before, none, after };

    [[nodiscard]] bool changes(std::size_t page) const noexcept {
        return page >= end_ || before_[page] != after_[page];
    }
    [[nodiscard]] std::size_t next_changing(std::size_t page) const noexcept {
        while (page < before_.size() && !changes(page))
            ++page;
        return page;
    }
    [[nodiscard]] std::size_t end_of_run(std::size_t page, std::size_t end) const noexcept {
        while (page < end && changes(page))
            ++page;
        return page;
    }
    [[nodiscard]] std::size_t next(stage wanted, std::size_t page) const noexcept {
        while (page < stages_.size() && stages_[page] != wanted)
            ++page;
        return page;
    }
    template <class Call>
    static bool twice(Call call) noexcept {
        return call().ok() || call().ok();
    }

    [[nodiscard]] address at(std::size_t page) const noexcept {
        return place_.start + place_.page_size * page;
    }
    status unmap(std::size_t first, std::size_t last) noexcept {
        const status outcome = place_.backend->unmap(at(first), place_.page_size * (last - first));
        if (outcome)
            std::fill(stages_.begin() + static_cast<std::ptrdiff_t>(first),
                      stages_.begin() + static_cast<std::ptrdiff_t>(last), stage::none);
        return outcome;
    }
    status map(std::size_t page, const chunk& behind, stage reached) noexcept {
        const status outcome = place_.backend->map(at(page), behind.handle());
        if (outcome)
            stages_[page] = reached;
        return outcome;
    }
    status open(std::size_t first, std::size_t last) noexcept {
        if (first >= last)
            return {};
        return place_.backend->set_access(at(first), place_.page_size * (last - first),
                                          access_mode::read_write);
    }

    struct place {
        Backend* backend = nullptr;
        address start{};
        bytes page_size{};
    };

    std::vector<chunk> before_;
    std::vector<chunk> after_;
    std::vector<stage> stages_;
    page_count accessible_{};
    std::size_t end_ = 0; ///< of the pages that stay mapped
    place place_;
};

} // namespace vtensor
