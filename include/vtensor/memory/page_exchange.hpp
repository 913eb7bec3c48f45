// SPDX-License-Identifier: Apache-2.0
//
// Pages of one range that change places, get other chunks, or become read-only or writable: which chunk lies
// where before and after, the calls that lead there, and those that lead back. Whose pages they are and when
// nobody reads them is known to the ranges.
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

/// Used once, by the thread that uses the range: `prepare` or `start` and `set`, then `run`, then, if need
/// be, `run_back`. The pages that are given up keep their chunks in `displaced()` until the exchange is over
/// for good.
template <backend Backend>
class page_exchange {
  public:
    using chunk = pooled_chunk<Backend>;

    /// Works out where the chunks go: blocks of `block_pages` pages change places, of all accessible pages
    /// only the first `kept` stay mapped. Calls no backend. `out_of_memory` for the tables. O(pages).
    [[nodiscard]] status prepare(const page_map<Backend>& pages, std::span<const defrag::block_move> moves,
                                 std::size_t block_pages, page_count kept) noexcept {
        if (const status outcome = start(pages, verb::defragment); !outcome)
            return outcome;
        const std::size_t usable = accessible_.count();
        defrag::for_each_exchange(moves, [&](std::size_t from, std::size_t to) {
            for (std::size_t page = 0; page < block_pages; ++page) {
                const std::size_t one = from * block_pages + page;
                const std::size_t other = to * block_pages + page;
                if (one < usable && other < usable) { // what is missing at the end holds no row
                    std::swap(after_[one], after_[other]);
                    std::swap(after_.read_only[one], after_.read_only[other]);
                }
            }
        });
        end_ = kept < accessible_ ? kept.count() : before_.size();
        return {};
    }
    /// Nothing changes but what `set` says then. Calls no backend. `out_of_memory` for the tables. O(pages).
    [[nodiscard]] status start(const page_map<Backend>& pages, verb during) noexcept {
        accessible_ = pages.accessible();
        try {
            before_.assign(pages);
            after_.assign(pages);
            stages_.assign(before_.size(), stage::before);
        } catch (const std::bad_alloc&) {
            const bytes size{pages.mapped().count() * 2 * (sizeof(chunk) + 2)};
            before_.clear();
            return error{errc::out_of_memory, during, 0, size};
        }
        end_ = before_.size();
        return {};
    }
    /// What lies behind an accessible page afterwards, and whether it is read-only.
    void set(std::size_t page, const chunk& behind, bool read_only) noexcept {
        after_[page] = behind;
        after_.read_only[page] = read_only ? 1 : 0;
    }

    /// The first page that is unmapped or becomes read-only, so that nothing may use it meanwhile; behind the
    /// last page where there is none.
    [[nodiscard]] page_index first_taken() const noexcept {
        std::size_t page = 0;
        while (page < before_.size() && !changes(page) && after_.read_only[page] <= before_.read_only[page])
            ++page;
        return page_index{page};
    }
    [[nodiscard]] bool takes_none() const noexcept { return first_taken() == page_index{before_.size()}; }
    [[nodiscard]] bool none_changes() const noexcept { return next_changing(0) == before_.size(); }

    /// Of the pages that are mapped afterwards, the chunks; and before.
    [[nodiscard]] std::span<const chunk> after() const noexcept {
        return std::span{after_.chunks}.first(end_);
    }
    [[nodiscard]] std::span<const chunk> before() const noexcept { return before_.chunks; }
    /// Of the same pages, whether they are read-only.
    [[nodiscard]] std::span<const std::uint8_t> read_only_after() const noexcept { return after_.read_only; }
    [[nodiscard]] std::span<const std::uint8_t> read_only_before() const noexcept {
        return before_.read_only;
    }
    /// Chunks that lie nowhere afterwards.
    [[nodiscard]] std::span<const chunk> displaced() const noexcept {
        return std::span{after_.chunks}.subspan(end_);
    }
    [[nodiscard]] page_count accessible_before() const noexcept { return accessible_; }
    [[nodiscard]] page_count accessible_after() const noexcept {
        return std::min(accessible_, page_count{end_});
    }

    /// Unmaps what changes, one call a run of neighbours; maps it anew; makes each run accessible, and then
    /// read-only or writable what keeps its chunk. Stops at the first failure: `run_back` is then to be
    /// called.
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
            if (const status outcome = open(first, std::min(last, accessible_.count()), after_); !outcome)
                return outcome;
        }
        const std::size_t usable = std::min(end_, accessible_.count());
        for (std::size_t first = next_reopened(0, usable), last; first < usable;
             first = next_reopened(last, usable)) {
            last = first + 1;
            while (next_reopened(last, usable) == last && last < usable &&
                   after_.read_only[last] == after_.read_only[first])
                ++last;
            if (const status outcome = open(first, last, after_); !outcome)
                return outcome;
            std::fill(stage_at(first), stage_at(last), stage::reopened);
        }
        return {};
    }

    /// Leads back to the state before `run`, trying twice whatever fails. How many pages from the first on
    /// are as before: all, unless the backend refused something twice. Where it refused twice to make a page
    /// read-only or writable again, the page stays as it is, and `read_only_before()` says so.
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
            if (opened > first && !twice([&] { return open(first, opened, before_); }))
                intact = std::min(intact, first);
            if (last < all && stages_[last] == stage::none) {
                intact = std::min(intact, last);
                ++last;
            }
        }
        for (std::size_t page = next(stage::reopened, 0); page < all; page = next(stage::reopened, page)) {
            if (!twice([&] { return open(page, page + 1, before_); }))
                before_.read_only[page] = after_.read_only[page];
            stages_[page] = stage::before;
        }
        lost_ = intact < all;
        return page_count{intact};
    }
    /// Whether `run_back` left pages that are not as they were before.
    [[nodiscard]] bool is_lost() const noexcept { return lost_; }

  private:
    enum class stage : std::uint8_t {
        before,
        none,
        after,
        reopened, ///< the chunk is the same, what may be done with it is not
    };

    /// What lies behind the pages.
    struct layout {
        std::vector<chunk> chunks;
        std::vector<std::uint8_t> read_only;

        void assign(const page_map<Backend>& pages) {
            const auto mapped = pages.tail(page_count{});
            const auto flags = pages.read_only();
            chunks.assign(mapped.begin(), mapped.end());
            read_only.assign(flags.begin(), flags.end());
        }
        void clear() noexcept {
            chunks.clear();
            read_only.clear();
        }
        [[nodiscard]] std::size_t size() const noexcept { return chunks.size(); }
        [[nodiscard]] chunk& operator[](std::size_t page) noexcept { return chunks[page]; }
        [[nodiscard]] const chunk& operator[](std::size_t page) const noexcept { return chunks[page]; }
    };

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
    /// The next page that keeps its chunk and becomes read-only or writable; `end` where there is none.
    [[nodiscard]] std::size_t next_reopened(std::size_t page, std::size_t end) const noexcept {
        while (page < end && (changes(page) || before_.read_only[page] == after_.read_only[page]))
            ++page;
        return page;
    }
    [[nodiscard]] auto stage_at(std::size_t page) noexcept {
        return stages_.begin() + static_cast<std::ptrdiff_t>(page);
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
            std::fill(stage_at(first), stage_at(last), stage::none);
        return outcome;
    }
    status map(std::size_t page, const chunk& behind, stage reached) noexcept {
        const status outcome = place_.backend->map(at(page), behind.handle());
        if (outcome)
            stages_[page] = reached;
        return outcome;
    }
    /// One call for each run of pages that allow the same.
    status open(std::size_t first, std::size_t last, const layout& wanted) noexcept {
        while (first < last) {
            std::size_t end = first + 1;
            while (end < last && wanted.read_only[end] == wanted.read_only[first])
                ++end;
            const access_mode allowed =
                wanted.read_only[first] != 0 ? access_mode::read : access_mode::read_write;
            if (const status outcome =
                    place_.backend->set_access(at(first), place_.page_size * (end - first), allowed);
                !outcome)
                return outcome;
            first = end;
        }
        return {};
    }

    struct place {
        Backend* backend = nullptr;
        address start{};
        bytes page_size{};
    };

    layout before_;
    layout after_;
    std::vector<stage> stages_;
    page_count accessible_{};
    std::size_t end_ = 0; ///< of the pages that stay mapped
    bool lost_ = false;
    place place_;
};

} // namespace vtensor
