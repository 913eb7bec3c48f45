// SPDX-License-Identifier: Apache-2.0
//
// Which chunk lies behind which page of a range, and in which state the page is. It calls no backend and
// counts no references: that is mapped_range.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/pooled_chunk.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace vtensor {

/// Pages 0 … mapped() − 1 of a range, each with its chunk; of them the first accessible() may be touched. A
/// page is read-only while its chunk is shared, and until it is made writable. Used by one thread at a time.
template <backend Backend>
class page_map {
  public:
    using chunk = pooled_chunk<Backend>;

    page_map() noexcept = default;
    /// The moved-from map is empty.
    page_map(page_map&& other) noexcept
        : chunks_{std::move(other.chunks_)},
          read_only_{std::move(other.read_only_)},
          read_only_end_{std::exchange(other.read_only_end_, page_count{})},
          mapped_{std::exchange(other.mapped_, page_count{})},
          accessible_{std::exchange(other.accessible_, page_count{})} {}
    page_map& operator=(page_map&&) = delete;
    ~page_map() = default;

    [[nodiscard]] page_count mapped() const noexcept { return mapped_; }
    [[nodiscard]] page_count accessible() const noexcept { return accessible_; }

    /// The chunk behind a page, or none.
    [[nodiscard]] chunk operator[](page_index page) const noexcept {
        return page < page_index{} + mapped_ ? chunks_[page.index()] : chunk{};
    }

    [[nodiscard]] page_state state(page_index page) const noexcept {
        if (page < page_index{} + accessible_)
            return page_state::accessible;
        return page < page_index{} + mapped_ ? page_state::mapped : page_state::reserved;
    }

    [[nodiscard]] bool is_read_only(page_index page) const noexcept {
        return page < page_index{} + read_only_end_ && read_only_[page.index()] != 0;
    }
    /// Behind the last mapped page that is read-only; 0 where none is.
    [[nodiscard]] page_count read_only_end() const noexcept { return read_only_end_; }
    /// The first of the pages from `from` on that is read-only; `mapped()` where none is. O(pages).
    [[nodiscard]] page_count first_read_only(page_count from) const noexcept {
        for (std::size_t page = from.count(); page < read_only_end_.count(); ++page) {
            if (read_only_[page] != 0)
                return page_count{page};
        }
        return std::max(from, mapped_);
    }

    /// The first page that the chunk lies behind. O(mapped pages).
    [[nodiscard]] std::optional<page_index> find(chunk wanted) const noexcept {
        for (std::size_t page = 0; page < mapped_.count(); ++page) {
            if (chunks_[page] == wanted)
                return page_index{page};
        }
        return std::nullopt;
    }

    /// Room for the chunks of `count` more pages, to be filled and then entered by `add`. The only operation
    /// that can fail, and the first of a growth: `errc::out_of_memory` for the table itself.
    [[nodiscard]] result<std::span<chunk>> prepare(page_count count) noexcept {
        const std::size_t size = mapped_.count() + count.count();
        try {
            if (read_only_.size() < size)
                read_only_.resize(size);
            if (chunks_.size() < size)
                chunks_.resize(size);
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::grow, 0, bytes{size * (sizeof(chunk) + 1)}};
        }
        return std::span{chunks_}.subspan(mapped_.count(), count.count());
    }

    /// The next `count` prepared pages are mapped.
    void add(page_count count, bool read_only = false) noexcept {
        VTENSOR_ASSERT(mapped_.count() + count.count() <= chunks_.size());
        const auto first = read_only_.begin() + static_cast<std::ptrdiff_t>(mapped_.count());
        std::fill_n(first, count.count(), read_only ? std::uint8_t{1} : std::uint8_t{0});
        mapped_ += count;
        if (read_only)
            read_only_end_ = mapped_;
    }

    /// Every mapped page is accessible.
    void open() noexcept { accessible_ = mapped_; }

    /// The chunks of the pages from `kept` on, in page order.
    [[nodiscard]] std::span<const chunk> tail(page_count kept) const noexcept {
        return std::span{chunks_}.subspan(kept.count(), (mapped_ - kept).count());
    }

    /// For each mapped page from `kept` on, whether it is read-only: 0 or 1.
    [[nodiscard]] std::span<const std::uint8_t> read_only(page_count kept = page_count{}) const noexcept {
        return std::span{read_only_}.subspan(kept.count(), (mapped_ - kept).count());
    }

    /// Other chunks lie behind the first pages: these, no more than were ever mapped, read-only or not. Of
    /// the pages the first `mapped` have a chunk now, of which the first `accessible` may be touched.
    void replace(std::span<const chunk> chunks, std::span<const std::uint8_t> read_only, page_count mapped,
                 page_count accessible) noexcept {
        VTENSOR_ASSERT(chunks.size() <= mapped.count() && mapped.count() <= chunks_.size() &&
                       accessible <= mapped);
        std::copy(chunks.begin(), chunks.end(), chunks_.begin());
        std::copy_n(read_only.begin(), chunks.size(), read_only_.begin());
        mapped_ = mapped;
        accessible_ = accessible;
        find_read_only_end(mapped_);
    }

    /// The pages from `kept` on are reserved again.
    void cut(page_count kept) noexcept {
        VTENSOR_ASSERT(kept <= mapped_);
        mapped_ = kept;
        accessible_ = accessible_ < kept ? accessible_ : kept;
        if (kept < read_only_end_) // otherwise not written: who owns a range asks for it without a lock
            find_read_only_end(kept);
    }

  private:
    void find_read_only_end(page_count most) noexcept {
        while (most > page_count{} && read_only_[most.count() - 1] == 0)
            most = page_count{most.count() - 1};
        read_only_end_ = most;
    }

    std::vector<chunk> chunks_;           ///< beyond `mapped_` the entries mean nothing
    std::vector<std::uint8_t> read_only_; ///< as long as `chunks_`, or longer
    page_count read_only_end_{};
    page_count mapped_{};
    page_count accessible_{};
};

} // namespace vtensor
