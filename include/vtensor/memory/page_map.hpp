// SPDX-License-Identifier: Apache-2.0
//
// Which chunk lies behind which page of a range, and in which state the page is. It calls no backend and
// counts no references: that is mapped_range.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/pooled_chunk.hpp>

#include <algorithm>
#include <cstddef>
#include <new>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace vtensor {

/// Pages 0 … mapped() − 1 of a range, each with its chunk; of them the first accessible() may be touched.
/// Used by one thread at a time.
template <backend Backend>
class page_map {
  public:
    using chunk = pooled_chunk<Backend>;

    page_map() noexcept = default;
    /// The moved-from map is empty.
    page_map(page_map&& other) noexcept
        : chunks_{std::move(other.chunks_)},
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
            if (chunks_.size() < size)
                chunks_.resize(size);
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::grow, 0, bytes{size * sizeof(chunk)}};
        }
        return std::span{chunks_}.subspan(mapped_.count(), count.count());
    }

    /// The next `count` prepared pages are mapped.
    void add(page_count count) noexcept {
        VTENSOR_ASSERT(mapped_.count() + count.count() <= chunks_.size());
        mapped_ += count;
    }

    /// Every mapped page is accessible.
    void open() noexcept { accessible_ = mapped_; }

    /// The chunks of the pages from `kept` on, in page order.
    [[nodiscard]] std::span<const chunk> tail(page_count kept) const noexcept {
        return std::span{chunks_}.subspan(kept.count(), (mapped_ - kept).count());
    }

    /// Other chunks lie behind the pages: these, no more than were ever mapped, of which the first
    /// `accessible` may be touched.
    void replace(std::span<const chunk> chunks, page_count accessible) noexcept {
        VTENSOR_ASSERT(chunks.size() <= chunks_.size() && accessible.count() <= chunks.size());
        std::copy(chunks.begin(), chunks.end(), chunks_.begin());
        mapped_ = page_count{chunks.size()};
        accessible_ = accessible;
    }

    /// The pages from `kept` on are reserved again.
    void cut(page_count kept) noexcept {
        VTENSOR_ASSERT(kept <= mapped_);
        mapped_ = kept;
        accessible_ = accessible_ < kept ? accessible_ : kept;
    }

  private:
    std::vector<chunk> chunks_; ///< beyond `mapped_` the entries mean nothing
    page_count mapped_{};
    page_count accessible_{};
};

} // namespace vtensor
