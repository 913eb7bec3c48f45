// SPDX-License-Identifier: Apache-2.0
//
// The tensor most users want: rows of a fixed shape in one contiguous range of addresses, with physical
// memory behind just the rows that exist. It decides nothing about memory (growth policies do) and calls no
// backend itself (the memory room does); it turns rows into pages and errors into exceptions.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/memory/grown_range.hpp>
#include <vtensor/memory/look_ahead_range.hpp>
#include <vtensor/memory/mapper.hpp>
#include <vtensor/policy/eviction/keep_all.hpp>
#include <vtensor/policy/growth.hpp>
#include <vtensor/row_shape.hpp>
#include <vtensor/tensor/evicting.hpp>
#include <vtensor/tensor/figures.hpp>
#include <vtensor/tensor/page_sharing.hpp>
#include <vtensor/tensor/retiring_rows.hpp>
#include <vtensor/tensor/rows_view.hpp>
#include <vtensor/tensor/together.hpp>
#include <vtensor/view.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

namespace vtensor {

namespace detail {

/// Which range carries a growth policy out.
template <class Pool, growth_policy Growth>
struct range_under {
    using type = grown_range<Pool, Growth>;
};
template <class Pool, look_ahead_policy Growth>
struct range_under<Pool, Growth> {
    using type = look_ahead_range<Pool, Growth>;
};

/// The base of a tensor with this eviction policy.
template <class Tensor, class Pool, eviction_policy Eviction>
using eviction_base = std::conditional_t<std::is_same_v<Eviction, eviction::keep_all>, not_evicting,
                                         evicting<Tensor, stream_of<Pool>>>;

} // namespace detail

template <class... Tensor>
class tensor_group;

/// Rows × a fixed row shape; the leading dimension grows. Row 0 never moves: `data()` is constant for the
/// life of the tensor, also when it is moved. New rows hold unspecified values (never another owner's, where
/// the pool scrubs).
///
/// Used as a standard container: by one thread at a time, const operations by several. The pool, and with
/// look-ahead growth the mapper, must outlive it. Every operation either does all of what it says or changes
/// nothing. Each throwing operation has a `try_` twin that returns the error instead.
template <element T, backend Backend, growth_policy Growth = growth::exact,
          eviction_policy Eviction = eviction::keep_all,
          mutex_type Mutex = std::conditional_t<look_ahead_policy<Growth>, std::mutex, no_mutex>>
class virtual_tensor : public detail::page_sharing<virtual_tensor<T, Backend, Growth, Eviction, Mutex>,
                                                   chunk_pool<Backend, Mutex>>,
                       public detail::retiring_rows<virtual_tensor<T, Backend, Growth, Eviction, Mutex>, T,
                                                    chunk_pool<Backend, Mutex>>,
                       public detail::eviction_base<virtual_tensor<T, Backend, Growth, Eviction, Mutex>,
                                                    chunk_pool<Backend, Mutex>, Eviction> {
    using eviction_base = detail::eviction_base<virtual_tensor, chunk_pool<Backend, Mutex>, Eviction>;
    using sharing_base = detail::page_sharing<virtual_tensor, chunk_pool<Backend, Mutex>>;
    using retiring_base = detail::retiring_rows<virtual_tensor, T, chunk_pool<Backend, Mutex>>;
    static constexpr bool looks_ahead = look_ahead_policy<Growth>;
    static constexpr bool evicts = !std::is_same_v<Eviction, eviction::keep_all>;
    static_assert(!looks_ahead || !std::is_same_v<Mutex, no_mutex>,
                  "look-ahead growth shares the pool with the mapper thread: give the pool a mutex");

  public:
    using value_type = T;
    using backend_type = Backend;
    using growth_policy_type = Growth;
    using eviction_policy_type = Eviction;
    using pool_type = chunk_pool<Backend, Mutex>;
    using stream_type = detail::stream_of<pool_type>; ///< means nothing where the backend has no streams

    /// Reserves addresses for `max_rows` rows; maps nothing yet. Throws `bad_argument` where the shape or
    /// `max_rows` is empty, `out_of_memory` where the addresses are not to be had.
    virtual_tensor(pool_type& pool, row_shape shape, std::size_t max_rows, const Growth& growth = {},
                   const tensor_options& options = {}) requires(!looks_ahead)
        : virtual_tensor{try_create(pool, shape, max_rows, growth, options).value()} {}

    /// The same for a growth policy that looks ahead, with the thread that maps for it.
    virtual_tensor(pool_type& pool, mapper& thread, row_shape shape, std::size_t max_rows,
                   const Growth& growth = {}, const tensor_options& options = {}) requires(looks_ahead)
        : virtual_tensor{try_create(pool, thread, shape, max_rows, growth, options).value()} {}

    [[nodiscard]] static result<virtual_tensor> try_create(pool_type& pool, row_shape shape,
                                                           std::size_t max_rows, const Growth& growth = {},
                                                           const tensor_options& options = {}) noexcept
        requires(!looks_ahead) {
        return make(pool, shape, max_rows,
                    [&](page_count limit) { return range_type::create(pool, limit, options.owner, growth); });
    }
    [[nodiscard]] static result<virtual_tensor> try_create(pool_type& pool, mapper& thread, row_shape shape,
                                                           std::size_t max_rows, const Growth& growth = {},
                                                           const tensor_options& options = {}) noexcept
        requires(looks_ahead) {
        return make(pool, shape, max_rows, [&](page_count limit) {
            return range_type::create(pool, limit, options.owner, growth, thread);
        });
    }

    /// The moved-from tensor is empty, may be destroyed or assigned to, and refuses whatever needs memory.
    virtual_tensor(virtual_tensor&& other) noexcept
        : sharing_base{},
          retiring_base{},
          eviction_base{std::move(other)},
          range_{std::move(other.range_)},
          data_{std::exchange(other.data_, nullptr)},
          rows_{std::exchange(other.rows_, 0)},
          max_rows_{std::exchange(other.max_rows_, 0)},
          row_bytes_{other.row_bytes_},
          shape_{other.shape_} {}
    virtual_tensor& operator=(virtual_tensor&& other) noexcept {
        if (this != &other) {
            range_ = std::move(other.range_);
            data_ = std::exchange(other.data_, nullptr);
            rows_ = std::exchange(other.rows_, 0);
            max_rows_ = std::exchange(other.max_rows_, 0);
            row_bytes_ = other.row_bytes_;
            shape_ = other.shape_;
            eviction_base::operator=(std::move(other));
        }
        return *this;
    }
    ~virtual_tensor() = default;

    // ---- rows ----

    /// Sets the number of rows. Growing maps what is missing; shrinking unmaps what the growth policy does
    /// not keep; the same number changes nothing. O(pages mapped or unmapped). Refused with `limit_exceeded`
    /// beyond `max_rows()`.
    [[nodiscard]] status try_resize(std::size_t rows) noexcept {
        return rows > rows_ ? grow(rows, nullptr) : shrink(rows);
    }
    void resize(std::size_t rows) { throw_if_failed(try_resize(rows)); }

    /// Forgets the rows from `rows` on. Cannot fail: memory that the backend refuses to unmap stays mapped,
    /// counted, and serves the next growth.
    void truncate(std::size_t rows) noexcept {
        if (rows >= rows_)
            return;
        const page_count needed = pages_of(rows);
        if (!range_->settle(needed))
            static_cast<void>(range_->settle(needed));
        static_cast<void>(resized(rows, {}));
    }

    /// As `truncate`, but all memory stays mapped for rows to come; `try_trim` gives it back.
    void cut(std::size_t rows) noexcept {
        if (rows < rows_)
            static_cast<void>(resized(rows, {}));
    }

    /// Adds `count` rows at the end: a view of them, to be filled.
    [[nodiscard]] result<tensor_view<T, 2>> try_append(std::size_t count) noexcept {
        if (count > max_rows_ - rows_)
            return refuse(errc::limit_exceeded, verb::grow, count);
        return appended(count, try_resize(rows_ + count));
    }
    tensor_view<T, 2> append(std::size_t count) { return try_append(count).value(); }

    /// Maps the memory of `rows` rows without adding them, so that growing to `rows` cannot fail afterwards.
    /// `trim` undoes it, and so does shrinking under a policy that does not keep the memory. A shared page
    /// that the next row begins in is replaced by a copy: nobody may read it meanwhile.
    [[nodiscard]] status try_prepare(std::size_t rows) noexcept {
        if (const status refusal = check(rows); !refusal)
            return refusal;
        if (const status outcome = this->prepare_slots(rows); !outcome)
            return outcome;
        return this->provide(rows, nullptr);
    }
    void prepare(std::size_t rows) { throw_if_failed(try_prepare(rows)); }

    // The same in two steps, for a cache that maps ahead on another thread. `try_map` looks at no row and at
    // no slot, so that meanwhile the owner may read and write rows, and add those that were prepared before.

    /// Maps the memory of `rows` rows. Shared pages stay shared.
    [[nodiscard]] status try_map(std::size_t rows) noexcept {
        const status refusal = check(rows);
        return refusal ? range_->require(pages_of(rows)) : refusal;
    }
    /// Adds rows up to `rows`, at most `prepared_rows()`. Touches no memory.
    void add_prepared(std::size_t rows) noexcept {
        if (rows > rows_)
            static_cast<void>(resized(rows, {}));
    }

    /// Unmaps everything that the rows do not occupy, whatever the growth policy would keep.
    [[nodiscard]] status try_trim() noexcept {
        if (const status refusal = check(rows_); !refusal)
            return refusal;
        return range_->trim(pages_of(rows_));
    }
    void trim() { throw_if_failed(try_trim()); }
    /// The same, but of what is mapped the first `keep` bytes stay, in whole pages.
    [[nodiscard]] status try_trim(bytes keep) noexcept {
        if (const status refusal = check(rows_); !refusal)
            return refusal;
        return range_->trim(std::max(pages_of(rows_), pages_for(keep, range_->page_size())));
    }
    void trim(bytes keep) { throw_if_failed(try_trim(keep)); }

    // The same behind queued work, on a backend with streams: see tensor/retiring_rows.hpp.
    using retiring_base::append;
    using retiring_base::resize;
    using retiring_base::trim;
    using retiring_base::try_append;
    using retiring_base::try_resize;
    using retiring_base::try_trim;

    // ---- what a kernel receives ----

    /// The address of row 0.
    [[nodiscard]] T* data() noexcept { return data_; }
    [[nodiscard]] const T* data() const noexcept { return data_; }

    /// [rows, elements of a row] for `Rank` 2; for the rank of the shape plus one, [rows, shape…]; anything
    /// else is refused with `invalid_argument`.
    template <std::size_t Rank = 2>
    [[nodiscard]] result<tensor_view<T, Rank>> try_view() noexcept {
        return detail::view_of_rows<Rank>(data_, rows_, shape_);
    }
    template <std::size_t Rank = 2>
    [[nodiscard]] result<tensor_view<const T, Rank>> try_view() const noexcept {
        return detail::view_of_rows<Rank>(static_cast<const T*>(data_), rows_, shape_);
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

    [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] std::size_t max_rows() const noexcept { return max_rows_; }
    /// Rows that fit into the memory that is mapped now.
    [[nodiscard]] std::size_t mapped_rows() const noexcept {
        return range_ ? std::min(max_rows_, accessible_bytes() / row_bytes()) : 0;
    }
    /// Rows that the tensor can grow to without anything that may fail.
    [[nodiscard]] std::size_t prepared_rows() const noexcept {
        return std::min({mapped_rows(), this->prepared_slots(), this->writable_rows(rows_)});
    }
    [[nodiscard]] const row_shape& shape() const noexcept { return shape_; }
    [[nodiscard]] bytes row_bytes() const noexcept { return row_bytes_; }
    /// Physical memory behind the tensor.
    [[nodiscard]] bytes mapped_bytes() const noexcept {
        return range_ ? range_->mapped() * range_->page_size() : bytes{0};
    }
    /// Addresses of the tensor.
    [[nodiscard]] bytes reserved_bytes() const noexcept {
        return range_ ? range_->reserved_bytes() : bytes{0};
    }
    [[nodiscard]] tensor_stats stats() const noexcept {
        return {rows_,
                max_rows_,
                row_bytes(),
                row_bytes() * rows_,
                mapped_bytes(),
                reserved_bytes(),
                range_ ? range_->page_size() : bytes{0}};
    }

    /// Why the mapper thread could not map ahead; ok where it could. See look_ahead_range.hpp.
    [[nodiscard]] status look_ahead_status() const noexcept requires(looks_ahead) {
        return range_ ? range_->look_ahead_status() : status{};
    }

    /// Checks the tensor's book-keeping, O(pages).
    [[nodiscard]] bool verify() const noexcept {
        if (!this->verify_slots(rows_))
            return false;
        return range_ == nullptr ||
               (range_->verify() && pages_of(rows_) <= range_->accessible() && rows_ <= max_rows_);
    }

  private:
    using range_type = typename detail::range_under<pool_type, Growth>::type;
    template <class... Tensor>
    friend class tensor_group;
    template <class Tensor, class Stream>
    friend class detail::evicting;
    template <class Tensor, class Pool>
    friend class detail::page_sharing;
    template <class Tensor, class Element, class Pool>
    friend class detail::retiring_rows;
    template <class Tensor>
    friend class detail::sharing_step;
    template <class Tensor, template <class> class Pages>
    friend class detail::exchanging_step;
    template <class Tensor>
    friend class detail::merging_step;
    template <class Tensor>
    friend class detail::writing_step;

    virtual_tensor(std::unique_ptr<range_type> range, row_shape shape, std::size_t max_rows) noexcept
        : range_{std::move(range)},
          data_{range_->start().template to_pointer<T>()},
          max_rows_{max_rows},
          row_bytes_{shape.size() * sizeof(T)},
          shape_{shape} {}

    template <class MakeRange>
    static result<virtual_tensor> make(pool_type& pool, const row_shape& shape, std::size_t max_rows,
                                       MakeRange make_range) noexcept {
        const std::size_t row_elements = shape.size();
        if (row_elements == 0 || max_rows == 0)
            return error{errc::invalid_argument, verb::construct, 0, bytes{0}};
        constexpr std::size_t most = std::numeric_limits<std::size_t>::max() / 2;
        if (row_elements > most / sizeof(T) || max_rows > most / (row_elements * sizeof(T)))
            return error{errc::out_of_addresses, verb::construct, 0, bytes{most}};
        auto range = make_range(pages_for(bytes{row_elements * sizeof(T) * max_rows}, pool.chunk_size()));
        if (!range)
            return range.error();
        return virtual_tensor{*std::move(range), shape, max_rows};
    }

    [[nodiscard]] error refuse(errc code, verb where, std::size_t rows) const noexcept {
        constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
        const bool fits = row_bytes() == bytes{0} || rows <= most / row_bytes().count();
        return error{code, where, 0, fits ? row_bytes() * rows : bytes{most}};
    }
    [[nodiscard]] status check(std::size_t rows) const noexcept {
        if (range_ == nullptr)
            return error{errc::invalid_argument, verb::grow, 0, bytes{0}};
        return rows <= max_rows_ ? status{} : status{refuse(errc::limit_exceeded, verb::grow, rows)};
    }
    [[nodiscard]] detail::tensor_part<range_type> part() noexcept requires evicts {
        return {range_.get(), &this->slots(), &rows_, row_bytes_};
    }
    status grow(std::size_t rows, const stream_type* stream) noexcept {
        if (const status refusal = check(rows); !refusal)
            return refusal;
        if (const status outcome = this->prepare_slots(rows); !outcome)
            return outcome;
        return resized(rows, this->provide(rows, stream));
    }
    status shrink(std::size_t rows) noexcept {
        if (const status refusal = check(rows); !refusal || rows == rows_)
            return refusal;
        return resized(rows, range_->settle(pages_of(rows)));
    }
    [[nodiscard]] result<tensor_view<T, 2>> appended(std::size_t count, const status& outcome) noexcept {
        if (!outcome)
            return outcome;
        return make_view(data_, rows_, shape_.size()).rows(rows_ - count, count);
    }
    /// The pages of `rows` rows are there, or nothing changed.
    status resized(std::size_t rows, const status& outcome) noexcept {
        if (!outcome)
            return outcome;
        rows_ = rows;
        this->resize_slots(rows);
        return outcome;
    }
    /// Where the backend refused twice to put a page back, the rows from that page on are lost.
    void forget_lost_rows() noexcept {
        const std::size_t there = accessible_bytes() / row_bytes_;
        if (there < rows_) {
            rows_ = there;
            this->resize_slots(there);
        }
    }
    [[nodiscard]] page_count pages_of(std::size_t rows) const noexcept {
        return pages_for(row_bytes() * rows, range_->page_size());
    }
    [[nodiscard]] bytes accessible_bytes() const noexcept {
        return range_->accessible() * range_->page_size();
    }

    std::unique_ptr<range_type> range_;
    T* data_ = nullptr;
    std::size_t rows_ = 0;
    std::size_t max_rows_ = 0;
    bytes row_bytes_; ///< of `shape_`, which takes a division an extent to multiply safely
    row_shape shape_;
};

} // namespace vtensor
