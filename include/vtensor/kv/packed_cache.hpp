// SPDX-License-Identifier: Apache-2.0
//
// The heads of a layer behind one another in one K and one V tensor, each with room to grow. With large pages
// a layer wastes up to one page of keys and one of values instead of one a head, beside the room.
#pragma once

#include <vtensor/attention/problem.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/detail/shared_tensors.hpp>
#include <vtensor/kv/layer_cache.hpp>

#include <algorithm>
#include <cstddef>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::kv {

/// How much room every head of a `packed_cache` has behind its rows when the heads are laid out.
struct packed_room {
    std::size_t least = 32; ///< rows
    std::size_t share = 8;  ///< beyond that, one for every `share` rows; 0: none

    /// Rows that a head of `rows` rows gets, of at most `most`.
    [[nodiscard]] constexpr std::size_t around(std::size_t rows, std::size_t most) const noexcept {
        const std::size_t room = std::max(least, share == 0 ? 0 : rows / share);
        return room >= most - rows ? most : rows + room;
    }
};

/// See `layer_cache`. Appending writes one row of every head; where a head has no room left the heads are
/// laid out anew, which moves all behind it: rows / share rows for each token that is appended, in the long
/// run. Rows are moved by the CPU, so that the backend must be one whose memory it reaches. Used by one
/// thread at a time; the pool must outlive it.
template <attention::attention_element T, host_visible_backend Backend, growth_policy Growth = growth::exact,
          mutex_type Mutex = no_mutex>
class packed_cache
    : public detail::shared_tensors<packed_cache<T, Backend, Growth, Mutex>, T, Backend, Growth, Mutex> {
    using base = detail::shared_tensors<packed_cache, T, Backend, Growth, Mutex>;
    friend base;

  public:
    using typename base::pool_type;
    using typename base::tensor_type;

    /// Reserves addresses; maps nothing yet. `invalid_argument` where a size is 0, `unsupported` where the
    /// CPU does not reach the pool's memory.
    [[nodiscard]] static result<packed_cache> try_create(pool_type& pool, const layer_shape& shape,
                                                         const packed_room& room = {},
                                                         const Growth& growth = {},
                                                         const tensor_options& options = {}) noexcept {
        if (!base::is_reached(pool))
            return error{errc::unsupported, verb::construct, 0, bytes{0}};
        auto parts = base::make_parts(pool, shape, 1, growth, options);
        if (!parts)
            return parts.error();
        packed_cache made{*std::move(parts), room};
        try {
            made.starts_.resize(shape.kv_heads + 1);
            made.wanted_.resize(shape.kv_heads + 1);
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::construct, 0,
                         bytes{shape.kv_heads * sizeof(std::size_t)}};
        }
        return made;
    }

    /// Rows that fit behind those of a head before the heads are laid out anew.
    [[nodiscard]] std::size_t room(std::size_t head) const noexcept {
        return place_of(head) - base::rows(head);
    }

    /// O(heads) where every head has room, else O(rows + pages mapped).
    [[nodiscard]] status try_append(std::size_t count) noexcept {
        if (count > shape_.max_rows - slots_.longest())
            return error{errc::limit_exceeded, verb::grow, 0, base::row_bytes() * count};
        if (const status outcome = slots_.prepare(count); !outcome)
            return outcome;
        bool fits = true;
        wanted_[0] = 0;
        for (std::size_t head = 0; head < slots_.count(); ++head) {
            const std::size_t needed = base::rows(head) + count;
            const bool has_room = needed <= place_of(head);
            fits = fits && has_room;
            wanted_[head + 1] =
                wanted_[head] + (has_room ? place_of(head) : room_.around(needed, shape_.max_rows));
        }
        if (!fits) {
            if (const status outcome = base::grow_to(wanted_.back()); !outcome)
                return outcome;
            for (std::size_t head = slots_.count(); head-- > 0;) // all go up: the last one first
                move_head(head);
            starts_.swap(wanted_);
        }
        slots_.add(count);
        return {};
    }
    /// No row may have been evicted or moved since they were appended. The memory stays, as room.
    void remove_last(std::size_t count) noexcept { slots_.remove_last(count); }

    /// Moves rows inside every head; when no dead row is left, and pages would become free by it, the heads
    /// are brought together too. O(rows).
    template <class Policy>
    requires defrag_policy<Policy, defrag::state, defrag::plan>
    [[nodiscard]] status try_defragment(const Policy& policy, std::span<defrag::plan> plans) noexcept {
        const status outcome = base::move_rows(policy, plans);
        if (outcome && slots_.live() == slots_.rows())
            bring_together();
        return outcome;
    }

    /// Checks the book-keeping, O(rows).
    [[nodiscard]] bool verify() const noexcept {
        for (std::size_t head = 0; head < slots_.count(); ++head)
            if (starts_[head] + base::rows(head) > starts_[head + 1])
                return false;
        return slots_.verify() && keys_.verify() && values_.verify() && starts_.back() <= keys_.rows() &&
               starts_.back() <= values_.rows();
    }

  private:
    packed_cache(typename base::parts&& made, const packed_room& room) noexcept
        : base{std::move(made)}, room_{room} {}

    using base::keys_;
    using base::shape_;
    using base::slots_;
    using base::values_;

    [[nodiscard]] detail::placement place(std::size_t head, std::size_t width) const noexcept {
        return {starts_[head] * width, width};
    }
    /// Rows that a head has place for.
    [[nodiscard]] std::size_t place_of(std::size_t head) const noexcept {
        return starts_[head + 1] - starts_[head];
    }

    /// From where it starts to where it is wanted.
    void move_head(std::size_t head) noexcept {
        const auto whole = [](T* data, std::size_t width) {
            return detail::column{reinterpret_cast<std::byte*>(data), width * sizeof(T), width * sizeof(T)};
        };
        whole(keys_.data(), shape_.key_width).move(starts_[head], wanted_[head], base::rows(head));
        whole(values_.data(), shape_.value_width).move(starts_[head], wanted_[head], base::rows(head));
    }
    void bring_together() noexcept {
        wanted_[0] = 0;
        for (std::size_t head = 0; head < slots_.count(); ++head)
            wanted_[head + 1] =
                wanted_[head] + std::min(place_of(head), room_.around(base::rows(head), shape_.max_rows));
        const auto pages = [](const tensor_type& tensor, std::size_t rows) {
            return pages_for(tensor.row_bytes() * rows, tensor.stats().page);
        };
        if (pages(keys_, wanted_.back()) == pages(keys_, keys_.rows()) &&
            pages(values_, wanted_.back()) == pages(values_, values_.rows()))
            return;
        for (std::size_t head = 0; head < slots_.count(); ++head) // all go down: the first one first
            move_head(head);
        starts_.swap(wanted_);
        base::truncate(starts_.back());
    }

    packed_room room_;
    std::vector<std::size_t> starts_; ///< by head, and behind the last one: in rows
    std::vector<std::size_t> wanted_; ///< as `starts_`: where the heads are going
};

} // namespace vtensor::kv
