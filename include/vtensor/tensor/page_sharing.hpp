// SPDX-License-Identifier: Apache-2.0
//
// The part of a tensor that shares its pages with others and takes them back: a common prefix is in memory
// once, and who writes gets a copy first. How pages are mapped twice is in memory/shared_prefix.hpp, how they
// are copied in memory/writable_pages.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/exception.hpp>
#include <vtensor/memory/shared_prefix.hpp>
#include <vtensor/memory/writable_pages.hpp>
#include <vtensor/policy/sharing.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

namespace vtensor::detail {

/// Base of `virtual_tensor`. Without a stream the CPU copies what is copied (`unsupported` where it does not
/// reach the memory), and nothing queued may write the donor's rows or use those that are made writable.
/// With one, copies are queued on it, and before pages change the call waits on the host for what is queued.
template <class Tensor, class Pool>
class page_sharing {
    using stream_type = stream_of<Pool>;
    static constexpr bool shares_on_streams = has_streams<Pool>;

  public:
    /// The first `rows` rows of `other` become this tensor's, which has none. Whole pages are mapped a second
    /// time, as many as the rule says, and are read-only in both tensors from then on; the rest is copied.
    /// Positions and dead rows come along. All of it or nothing; but pages of this tensor that no row
    /// occupies are given up first. `invalid_argument` where this tensor has rows, the other has fewer, or
    /// the two differ in their pool or the shape of a row. O(pages) calls of the backend.
    template <sharing_policy Rule = vtensor::sharing::map_all>
    [[nodiscard]] status try_share_prefix_of(Tensor& other, std::size_t rows,
                                             const Rule& rule = {}) noexcept {
        return share(other, rows, rule, nullptr);
    }
    template <sharing_policy Rule = vtensor::sharing::map_all>
    void share_prefix_of(Tensor& other, std::size_t rows, const Rule& rule = {}) {
        throw_if_failed(try_share_prefix_of(other, rows, rule));
    }
    /// The same behind the work queued on the stream, which is all that wrote these rows.
    template <sharing_policy Rule>
    [[nodiscard]] status try_share_prefix_of(Tensor& other, std::size_t rows, const Rule& rule,
                                             const stream_type& stream) noexcept requires shares_on_streams {
        return share(other, rows, rule, &stream);
    }
    template <sharing_policy Rule>
    void share_prefix_of(Tensor& other, std::size_t rows, const Rule& rule,
                         const stream_type& stream) requires shares_on_streams {
        throw_if_failed(try_share_prefix_of(other, rows, rule, stream));
    }

    /// A tensor like this one, with all its rows.
    template <sharing_policy Rule = vtensor::sharing::map_all>
    [[nodiscard]] result<Tensor> try_fork(const Rule& rule = {}) noexcept {
        return forked(rule, nullptr);
    }
    template <sharing_policy Rule = vtensor::sharing::map_all>
    [[nodiscard]] Tensor fork(const Rule& rule = {}) {
        return try_fork(rule).value();
    }
    template <sharing_policy Rule>
    [[nodiscard]] result<Tensor> try_fork(const Rule& rule,
                                          const stream_type& stream) noexcept requires shares_on_streams {
        return forked(rule, &stream);
    }
    template <sharing_policy Rule>
    [[nodiscard]] Tensor fork(const Rule& rule, const stream_type& stream) requires shares_on_streams {
        return try_fork(rule, stream).value();
    }

    /// The rows [first, first + count) may be written afterwards, and with them what else lies on their
    /// pages. A page that no other tensor holds any more gets its access back, a shared one is replaced by a
    /// copy of itself; or nothing changes. Costs nothing where nothing is read-only. `invalid_argument` for
    /// rows that there are not.
    [[nodiscard]] status try_make_writable(std::size_t first, std::size_t count) noexcept {
        return make_writable_rows(first, count, nullptr);
    }
    void make_writable(std::size_t first, std::size_t count) {
        throw_if_failed(try_make_writable(first, count));
    }
    [[nodiscard]] status try_make_writable(std::size_t first, std::size_t count,
                                           const stream_type& stream) noexcept requires shares_on_streams {
        return make_writable_rows(first, count, &stream);
    }
    void make_writable(std::size_t first, std::size_t count,
                       const stream_type& stream) requires shares_on_streams {
        throw_if_failed(try_make_writable(first, count, stream));
    }

    /// Of `mapped_bytes()`, memory that other tensors hold too. O(pages).
    [[nodiscard]] bytes shared_bytes() const noexcept {
        const auto& range = self().range_;
        if (range == nullptr || range->read_only_end() == page_count{})
            return bytes{0};
        return range->with_pages([&](const auto& pages) {
            return range->page_size() * range->pool().count_shared(pages.tail(page_count{}));
        });
    }

  protected:
    page_sharing() = default;
    page_sharing(const page_sharing&) = default;
    page_sharing(page_sharing&&) = default;
    page_sharing& operator=(const page_sharing&) = default;
    page_sharing& operator=(page_sharing&&) = default;
    ~page_sharing() = default;

    /// Memory for `rows` rows, of which those behind the present ones may be written; or nothing changes.
    [[nodiscard]] status provide(std::size_t rows, const stream_type* stream) noexcept {
        auto& range = *self().range_;
        const page_count needed = self().pages_of(rows);
        const bytes used = self().row_bytes_ * self().rows_;
        if (rows <= self().rows_ || range.read_only_end() * range.page_size() <= used)
            return range.require(needed);
        writable_pages pages{range};
        status outcome = pages.want(page_count{used / range.page_size()}, needed);
        if (outcome)
            outcome = pages.run(stream);
        if (outcome)
            outcome = range.require(needed);
        return settled(pages, outcome);
    }

    /// Rows up to the first shared page that a new row would lie on; more than there can be where there is
    /// none.
    [[nodiscard]] std::size_t writable_rows() const noexcept {
        constexpr std::size_t all = std::numeric_limits<std::size_t>::max();
        const auto& range = self().range_;
        const bytes used = self().row_bytes_ * self().rows_;
        if (range == nullptr || range->read_only_end() * range->page_size() <= used)
            return all;
        return range->with_pages([&](const auto& pages) {
            const page_count shared = pages.first_read_only(page_count{used / range->page_size()});
            return shared < pages.mapped()
                       ? std::max(self().rows_, shared * range->page_size() / self().row_bytes_)
                       : all;
        });
    }

  private:
    [[nodiscard]] Tensor& self() noexcept { return static_cast<Tensor&>(*this); }
    [[nodiscard]] const Tensor& self() const noexcept { return static_cast<const Tensor&>(*this); }

    static error refusal(verb where) noexcept { return error{errc::invalid_argument, where, 0, bytes{0}}; }

    template <class Rule>
    status share(Tensor& other, std::size_t rows, const Rule& rule, const stream_type* stream) noexcept {
        Tensor& own = self();
        if (own.range_ == nullptr || other.range_ == nullptr || &own == &other || own.rows_ != 0 ||
            rows > other.rows_ || &own.range_->pool() != &other.range_->pool() || own.shape_ != other.shape_)
            return refusal(verb::share);
        if (const status outcome = own.check(rows); !outcome || rows == 0)
            return outcome;
        typename Tensor::slots_type slots;
        if (const status outcome = other.copy_slots(rows, slots); !outcome)
            return outcome;
        const bytes size = own.row_bytes_ * rows;
        shared_prefix prefix{*own.range_, *other.range_, stream};
        if (const status outcome = prefix.run(pages_to_map(other, size, rule, stream), size); !outcome)
            return outcome;
        own.rows_ = rows;
        own.take_slots(std::move(slots));
        return {};
    }
    template <class Rule>
    [[nodiscard]] page_count pages_to_map(const Tensor& other, bytes size, const Rule& rule,
                                          const stream_type* stream) const noexcept {
        const auto& pool = other.range_->pool();
        if (!can_alias(pool.backend()))
            return page_count{};
        sharing_state state{};
        state.page = other.range_->page_size();
        state.whole = page_count{size / state.page};
        state.mapped = self().range_->mapped();
        state.writable = other.range_->with_pages([&](const auto& pages) {
            const auto flags = pages.read_only().first(state.whole.count());
            return page_count{static_cast<std::size_t>(std::count(flags.begin(), flags.end(), 0))};
        });
        state.aliases = pool.stats().aliases;
        state.behind_work = stream != nullptr;
        return std::min(rule.pages(state), state.whole);
    }

    template <class Rule>
    [[nodiscard]] result<Tensor> forked(const Rule& rule, const stream_type* stream) noexcept {
        Tensor& own = self();
        if (own.range_ == nullptr)
            return refusal(verb::share);
        auto range = own.range_->create_alike();
        if (!range)
            return range.error();
        Tensor made{*std::move(range), own.shape_, own.max_rows_};
        if (const status outcome = static_cast<page_sharing&>(made).share(own, own.rows_, rule, stream);
            !outcome)
            return outcome;
        return made;
    }

    status make_writable_rows(std::size_t first, std::size_t count, const stream_type* stream) noexcept {
        Tensor& own = self();
        if (own.range_ == nullptr || first > own.rows_ || count > own.rows_ - first)
            return refusal(verb::make_writable);
        if (count == 0 || own.range_->read_only_end() == page_count{})
            return {};
        writable_pages pages{*own.range_};
        status outcome = pages.want(page_count{own.row_bytes_ * first / own.range_->page_size()},
                                    own.pages_of(first + count));
        if (outcome)
            outcome = pages.run(stream);
        return settled(pages, outcome);
    }

    template <class Pages>
    status settled(Pages& pages, const status& outcome) noexcept {
        if (outcome) {
            pages.finish();
            return outcome;
        }
        pages.undo(nullptr);
        // Where the backend refused twice to put a page back, the rows from that page on are lost.
        const std::size_t there = self().accessible_bytes() / self().row_bytes_;
        if (there < self().rows_) {
            self().rows_ = there;
            self().resize_slots(there);
        }
        return outcome;
    }
};

} // namespace vtensor::detail
