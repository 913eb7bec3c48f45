// SPDX-License-Identifier: Apache-2.0
//
// The last rows of a sequence that never ends, always one contiguous range: the pages are mapped twice in a
// row, so that what runs over the end of the first mapping goes on in the second. Nothing is copied, unmapped
// or mapped once the window is full.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/exception.hpp>
#include <vtensor/core/rows.hpp>
#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/memory/reservation.hpp>
#include <vtensor/row_shape.hpp>
#include <vtensor/tensor/figures.hpp>
#include <vtensor/tensor/rows_view.hpp>
#include <vtensor/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <utility>

namespace vtensor {

/// A window of the newest rows. Appending to a full window drops the oldest row for each new one. Row j of
/// `view()` has the position first_position() + j; where it lies changes with every append, so take the view
/// anew. Pages are mapped when the window first reaches them, then kept.
///
/// Used as a standard container: by one thread at a time. The pool must outlive it. Every operation does all
/// of what it says or changes nothing. On a backend with streams nothing is unmapped or written by an append:
/// what queued work reads stays as it is until the caller writes the appended rows, which must be ordered
/// behind it. Everything queued must be done before the tensor goes.
template <element T, aliasing_backend Backend, mutex_type Mutex = no_mutex>
class ring_tensor {
  public:
    using value_type = T;
    using backend_type = Backend;
    using pool_type = chunk_pool<Backend, Mutex>;

    /// Reserves addresses for twice `window` rows; maps nothing yet. Throws `bad_argument` where the shape or
    /// the window is empty, `backend_failure` where this machine cannot map a chunk twice.
    ring_tensor(pool_type& pool, row_shape shape, std::size_t window, const tensor_options& options = {})
        : ring_tensor{try_create(pool, shape, window, options).value()} {}

    [[nodiscard]] static result<ring_tensor> try_create(pool_type& pool, row_shape shape, std::size_t window,
                                                        const tensor_options& options = {}) noexcept {
        const std::size_t row = shape.size();
        if (row == 0 || window == 0)
            return error{errc::invalid_argument, verb::construct, 0, bytes{0}};
        constexpr std::size_t most = std::numeric_limits<std::size_t>::max() / 8;
        if (row > most / sizeof(T) || window > most / (row * sizeof(T)))
            return error{errc::out_of_addresses, verb::construct, 0, bytes{most}};
        if (!std::as_const(pool.backend()).can_alias())
            return error{errc::unsupported, verb::construct, 0, bytes{0}};
        const page_count pages = pages_for(bytes{row * sizeof(T) * window}, pool.chunk_size());
        auto addresses = reservation<Backend>::create(pool.backend(), 2 * (pages * pool.chunk_size()));
        if (!addresses)
            return addresses.error();
        std::unique_ptr<chunk[]> chunks{new (std::nothrow) chunk[pages.count()]};
        if (chunks == nullptr)
            return error{errc::out_of_memory, verb::construct, 0, bytes{pages.count() * sizeof(chunk)}};
        return ring_tensor{pool,   *std::move(addresses), std::move(chunks), pages, shape,
                           window, options.owner};
    }

    /// The moved-from tensor is empty, and may only be destroyed.
    ring_tensor(ring_tensor&& other) noexcept
        : pool_{other.pool_},
          addresses_{std::move(other.addresses_)},
          chunks_{std::move(other.chunks_)},
          pages_{std::exchange(other.pages_, {})},
          halves_{std::exchange(other.halves_[0], {}), std::exchange(other.halves_[1], {})},
          accessible_{std::exchange(other.accessible_, {})},
          shape_{other.shape_},
          row_bytes_{other.row_bytes_},
          window_{std::exchange(other.window_, 0)},
          next_{std::exchange(other.next_, 0)},
          first_{std::exchange(other.first_, 0)},
          owner_{other.owner_} {}
    ring_tensor& operator=(ring_tensor&&) = delete;
    /// Pages that cannot be unmapped keep their chunks and addresses for ever.
    ~ring_tensor() {
        if (!addresses_)
            return;
        unmap_from({});
        if (mapped() != page_count{})
            addresses_.forget();
    }

    // ---- rows ----

    /// Adds `count` rows at the end, at most a window of them: a view of them, to be filled. The oldest rows
    /// leave where the window is full. O(pages mapped), which is nothing once the window was full.
    [[nodiscard]] result<tensor_view<T, 2>> try_append(std::size_t count) noexcept {
        if (count > window_)
            return error{errc::limit_exceeded, verb::grow, 0, row_bytes_ * std::min(count, window_ + 1)};
        const std::size_t used = (next_ + count) * row_bytes_.count();
        const page_count needed = std::min(pages_, pages_for(bytes{used}, page_size()));
        if (const status outcome = grow_to(needed); !outcome)
            return outcome;
        T* const where = at(next_);
        next_ += count;
        first_ = std::max(first_, next_ > window_ ? next_ - window_ : 0);
        return make_view(where, count, shape_.size());
    }
    tensor_view<T, 2> append(std::size_t count) { return try_append(count).value(); }

    /// Maps the whole window, so that no append calls the backend any more, or fails.
    [[nodiscard]] status try_prepare() noexcept { return grow_to(pages_); }
    void prepare() { throw_if_failed(try_prepare()); }

    /// No rows, and positions from 0 again. The memory stays.
    void clear() noexcept { next_ = first_ = 0; }

    // ---- what a kernel receives ----

    /// The rows of the window, oldest first: as `virtual_tensor::try_view`.
    template <std::size_t Rank = 2>
    [[nodiscard]] result<tensor_view<T, Rank>> try_view() noexcept {
        return detail::view_of_rows<Rank>(at(first_), rows(), shape_);
    }
    template <std::size_t Rank = 2>
    [[nodiscard]] result<tensor_view<const T, Rank>> try_view() const noexcept {
        return detail::view_of_rows<Rank>(static_cast<const T*>(at(first_)), rows(), shape_);
    }
    template <std::size_t Rank = 2>
    [[nodiscard]] tensor_view<T, Rank> view() {
        return try_view<Rank>().value();
    }
    template <std::size_t Rank = 2>
    [[nodiscard]] tensor_view<const T, Rank> view() const {
        return try_view<Rank>().value();
    }

    // ---- figures ----

    [[nodiscard]] std::size_t rows() const noexcept { return next_ - first_; }
    /// The most rows that it holds.
    [[nodiscard]] std::size_t window() const noexcept { return window_; }
    /// The position of the oldest row, and of the row that is appended next. 64 bits: a stream may run on.
    [[nodiscard]] std::uint64_t first_position() const noexcept { return first_; }
    [[nodiscard]] std::uint64_t next_position() const noexcept { return next_; }
    [[nodiscard]] const row_shape& shape() const noexcept { return shape_; }
    [[nodiscard]] bytes row_bytes() const noexcept { return row_bytes_; }
    /// Physical memory behind the tensor, each chunk once.
    [[nodiscard]] bytes mapped_bytes() const noexcept { return mapped() * page_size(); }
    [[nodiscard]] bytes reserved_bytes() const noexcept { return addresses_.size(); }

    /// Checks the tensor's book-keeping, O(pages).
    [[nodiscard]] bool verify() const noexcept {
        if (rows() > window_ || accessible_ > halves_[0] || accessible_ > halves_[1] || mapped() > pages_)
            return false;
        for (const chunk& behind : chunks({}, mapped())) {
            if (!behind || pool_->references(behind) == 0)
                return false;
        }
        return true;
    }

  private:
    using chunk = typename pool_type::chunk;

    ring_tensor(pool_type& pool, reservation<Backend>&& addresses, std::unique_ptr<chunk[]>&& chunks,
                page_count pages, const row_shape& shape, std::size_t window, owner_id owner) noexcept
        : pool_{&pool},
          addresses_{std::move(addresses)},
          chunks_{std::move(chunks)},
          pages_{pages},
          shape_{shape},
          row_bytes_{shape.size() * sizeof(T)},
          window_{window},
          owner_{owner} {}

    [[nodiscard]] bytes page_size() const noexcept { return pool_->chunk_size(); }
    /// Pages with a chunk.
    [[nodiscard]] page_count mapped() const noexcept { return std::max(halves_[0], halves_[1]); }
    [[nodiscard]] std::span<chunk> chunks(page_count first, page_count end) const noexcept {
        return {chunks_.get() + first.count(), (end - first).count()};
    }
    /// Where a page lies in the first or the second half.
    [[nodiscard]] address page_at(std::size_t half, page_count page) const noexcept {
        return addresses_.start() + (half * pages_.count() + page.count()) * page_size();
    }
    /// Where the row of a position lies: in the first half, perhaps reaching into the second.
    [[nodiscard]] T* at(std::size_t position) const noexcept {
        if (pages_ == page_count{})
            return nullptr;
        const std::size_t place = position * row_bytes_.count() % (pages_ * page_size()).count();
        return (addresses_.start() + bytes{place}).template to_pointer<T>();
    }

    status grow_to(page_count count) noexcept {
        if (count <= accessible_)
            return {};
        const page_count before = mapped();
        std::size_t created = 0;
        if (count > before) {
            if (const status outcome = pool_->acquire(chunks(before, count), owner_, created); !outcome)
                return outcome;
        }
        status outcome;
        for (std::size_t half = 0; half < 2 && outcome; ++half)
            outcome = map_half(half, count);
        if (outcome) {
            hand_over(count);
            accessible_ = count;
            return {};
        }
        unmap_from(accessible_, std::max(count, before));
        pool_->discard(created);
        return outcome;
    }
    status map_half(std::size_t half, page_count count) noexcept {
        for (page_count& page = halves_[half]; page < count; page += page_count{1}) {
            if (const status outcome =
                    pool_->backend().map(page_at(half, page), chunks_[page.count()].handle());
                !outcome)
                return outcome;
        }
        return pool_->backend().set_access(
            page_at(half, accessible_), (halves_[half] - accessible_) * page_size(), access_mode::read_write);
    }
    void unmap_from(page_count kept) noexcept { unmap_from(kept, mapped()); }
    /// Unmaps both halves from `kept` on, trying twice, and gives the chunks up to `end` back that lie
    /// nowhere any more. What stays serves the next growth.
    void unmap_from(page_count kept, page_count end) noexcept {
        for (std::size_t half = 0; half < 2; ++half) {
            if (halves_[half] <= kept)
                continue;
            const bytes size = (halves_[half] - kept) * page_size();
            if (pool_->backend().unmap(page_at(half, kept), size) ||
                pool_->backend().unmap(page_at(half, kept), size))
                halves_[half] = kept;
        }
        accessible_ = std::min(accessible_, kept);
        const std::span<chunk> unused = chunks(std::max(mapped(), kept), end);
        for (std::size_t index = unused.size(); index-- > 0;)
            pool_->release(std::exchange(unused[index], chunk{}));
    }
    /// Zeroes what another owner wrote.
    void hand_over(page_count count) noexcept {
        for (page_count page = accessible_; page < count; page += page_count{1}) {
            const chunk behind = chunks_[page.count()];
            const bool foreign = pool_->needs_scrub(behind);
            if (foreign)
                std::memset(page_at(0, page).to_pointer(), 0, page_size().count());
            pool_->hand_over(behind, foreign);
        }
    }

    pool_type* pool_;
    reservation<Backend> addresses_;
    std::unique_ptr<chunk[]> chunks_; ///< one a page; the first `mapped()` have one
    page_count pages_{};              ///< of one half
    page_count halves_[2] = {};       ///< pages mapped in each half
    page_count accessible_{};         ///< pages that may be touched in both
    row_shape shape_;
    bytes row_bytes_{};
    std::size_t window_ = 0;
    std::size_t next_ = 0;  ///< position
    std::size_t first_ = 0; ///< position
    owner_id owner_{};
};

} // namespace vtensor
