// SPDX-License-Identifier: Apache-2.0
//
// The part of a tensor that shares its pages with others and takes them back: a common prefix is in memory
// once, and who writes gets a copy first. How pages are mapped twice is in memory/shared_prefix.hpp, how they
// are copied in memory/writable_pages.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/exception.hpp>
#include <vtensor/memory/retiring_range.hpp>
#include <vtensor/policy/sharing.hpp>
#include <vtensor/tensor/sharing_steps.hpp>

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

    /// The first `rows` rows, which both tensors have, are equal in both, says the caller: no byte is looked
    /// at. The whole pages that they fill are in memory once afterwards: this tensor's are exchanged for the
    /// other's, mapped a second time, read-only in both from then on, and go back to the pool. Both, or
    /// neither, have changed. Pages that are the other's already cost no call of the backend; one that cannot
    /// map a chunk twice is not called. Nobody may read these rows of this tensor meanwhile.
    /// `invalid_argument` where a tensor has fewer rows or the two differ in their pool or the shape of a
    /// row; `out_of_memory` for the tables. O(pages).
    [[nodiscard]] status try_merge_prefix_of(Tensor& other, std::size_t rows) noexcept {
        return merge(other, rows, nullptr);
    }
    void merge_prefix_of(Tensor& other, std::size_t rows) {
        throw_if_failed(try_merge_prefix_of(other, rows));
    }
    /// The same behind the work queued on the stream, which is all that reads these rows here and writes them
    /// there.
    [[nodiscard]] status try_merge_prefix_of(Tensor& other, std::size_t rows,
                                             const stream_type& stream) noexcept requires shares_on_streams {
        return merge(other, rows, &stream);
    }
    void merge_prefix_of(Tensor& other, std::size_t rows,
                         const stream_type& stream) requires shares_on_streams {
        throw_if_failed(try_merge_prefix_of(other, rows, stream));
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

    /// Of `mapped_bytes()`, memory that other tensors hold too; of the pages behind the first `rows` rows,
    /// where they are given. O(pages).
    [[nodiscard]] bytes shared_bytes(std::size_t rows = 0) const noexcept {
        const auto& range = self().range_;
        const page_count first =
            range == nullptr ? page_count{} : pages_for(self().row_bytes_ * rows, range->page_size());
        if (range == nullptr || range->read_only_end() <= first)
            return bytes{0};
        return range->with_pages([&](const auto& pages) {
            return range->page_size() * range->pool().count_shared(pages.tail(first));
        });
    }

    /// Rows up to the first shared page on which row `first` or a later one lies; more than there can be
    /// where there is none. O(pages shared).
    [[nodiscard]] std::size_t writable_rows(std::size_t first) const noexcept {
        constexpr std::size_t all = std::numeric_limits<std::size_t>::max();
        const auto& range = self().range_;
        const bytes used = self().row_bytes_ * first;
        if (range == nullptr || range->read_only_end() * range->page_size() <= used)
            return all;
        return range->with_pages([&](const auto& pages) {
            const page_count shared = pages.first_read_only(page_count{used / range->page_size()});
            return shared < pages.mapped() ? std::max(first, shared * range->page_size() / self().row_bytes_)
                                           : all;
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
        writing_step<Tensor> step;
        status outcome = step.run(self(), self().rows_, rows, stream);
        if (outcome)
            outcome = range.require(needed);
        if (outcome)
            step.finish();
        else
            step.undo();
        return outcome;
    }

  private:
    [[nodiscard]] Tensor& self() noexcept { return static_cast<Tensor&>(*this); }
    [[nodiscard]] const Tensor& self() const noexcept { return static_cast<const Tensor&>(*this); }

    static error refusal(verb where) noexcept { return error{errc::invalid_argument, where, 0, bytes{0}}; }

    template <class Rule>
    status share(Tensor& other, std::size_t rows, const Rule& rule, const stream_type* stream) noexcept {
        return sharing_step<Tensor>{}.run(self(), other, rows, rule, stream);
    }

    status merge(Tensor& other, std::size_t rows, const stream_type* stream) noexcept {
        merging_step<Tensor> step;
        const status outcome = step.run(self(), other, rows, stream);
        step.finish();
        return outcome;
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
        writing_step<Tensor> step;
        const status outcome = step.run(own, first, first + count, stream);
        step.finish();
        return outcome;
    }
};

} // namespace vtensor::detail
