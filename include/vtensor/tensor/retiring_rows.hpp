// SPDX-License-Identifier: Apache-2.0
//
// The part of a tensor that works behind queued work: it gives up rows that work may still read, and adds
// rows where a copy is needed first. When pages are unmapped is known to memory/retire_queue.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/exception.hpp>
#include <vtensor/memory/retiring_range.hpp>
#include <vtensor/view.hpp>

#include <cstddef>

namespace vtensor::detail {

/// Base of `virtual_tensor`; its operations are there on a backend with streams. What they give up is no row
/// of the tensor any more, but stays mapped and readable until the work queued on the stream so far is done.
/// No call waits for that. Growing over such pages takes them back as they are; see docs/streams.md.
template <class Tensor, class T, class Pool>
class retiring_rows {
    using stream_type = stream_of<Pool>;
    static constexpr bool has_streams = detail::has_streams<Pool>;

  public:
    /// Fewer rows: what the growth policy does not keep retires. More rows: as without a stream, but where
    /// the page that the first of them begins in is shared, its copy is queued there.
    [[nodiscard]] status try_resize(std::size_t rows,
                                    const stream_type& stream) noexcept requires has_streams {
        Tensor& own = self();
        if (rows >= own.rows_)
            return own.grow(rows, &stream);
        return own.resized(rows, own.range_->settle(own.pages_of(rows), stream));
    }
    void resize(std::size_t rows, const stream_type& stream) requires has_streams {
        throw_if_failed(try_resize(rows, stream));
    }

    [[nodiscard]] result<tensor_view<T, 2>>
    try_append(std::size_t count, const stream_type& stream) noexcept requires has_streams {
        Tensor& own = self();
        if (count > own.max_rows_ - own.rows_)
            return own.refuse(errc::limit_exceeded, verb::grow, count);
        return own.appended(count, try_resize(own.rows_ + count, stream));
    }
    tensor_view<T, 2> append(std::size_t count, const stream_type& stream) requires has_streams {
        return try_append(count, stream).value();
    }

    [[nodiscard]] status try_trim(const stream_type& stream) noexcept requires has_streams {
        Tensor& own = self();
        if (const status refusal = own.check(own.rows_); !refusal)
            return refusal;
        return own.range_->trim(own.pages_of(own.rows_), stream);
    }
    void trim(const stream_type& stream) requires has_streams { throw_if_failed(try_trim(stream)); }

    /// Gives up every row and every page, whatever the growth policy would keep: what to do before the tensor
    /// is destroyed. It may grow again.
    [[nodiscard]] status try_retire(const stream_type& stream) noexcept requires has_streams {
        Tensor& own = self();
        if (const status refusal = own.check(0); !refusal)
            return refusal;
        return own.resized(0, own.range_->trim(page_count{}, stream));
    }
    void retire(const stream_type& stream) requires has_streams { throw_if_failed(try_retire(stream)); }

    /// Physical memory behind pages given up, still mapped. Not part of `mapped_bytes()`.
    [[nodiscard]] bytes retiring_bytes() const noexcept requires has_streams {
        const auto& range = static_cast<const Tensor&>(*this).range_;
        return range ? range->retiring() * range->page_size() : bytes{0};
    }

  protected:
    retiring_rows() = default;
    retiring_rows(const retiring_rows&) = default;
    retiring_rows(retiring_rows&&) = default;
    retiring_rows& operator=(const retiring_rows&) = default;
    retiring_rows& operator=(retiring_rows&&) = default;
    ~retiring_rows() = default;

  private:
    [[nodiscard]] Tensor& self() noexcept { return static_cast<Tensor&>(*this); }
};

} // namespace vtensor::detail
