// SPDX-License-Identifier: Apache-2.0
//
// The heads of a layer behind one another in one K and one V tensor, each with room to grow. With large pages
// a layer wastes up to one page of keys and one of values instead of one a head, beside the room.
#pragma once

#include <vtensor/attention/problem.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/detail/column.hpp>
#include <vtensor/kv/detail/head_slots.hpp>
#include <vtensor/kv/layer_cache.hpp>
#include <vtensor/virtual_tensor.hpp>

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
class packed_cache {
  public:
    using value_type = T;
    using backend_type = Backend;
    using tensor_type = virtual_tensor<T, Backend, Growth, eviction::keep_all, Mutex>;
    using pool_type = typename tensor_type::pool_type;

    /// Reserves addresses; maps nothing yet. `invalid_argument` where a size is 0, `unsupported` where the
    /// CPU does not reach the pool's memory.
    [[nodiscard]] static result<packed_cache> try_create(pool_type& pool, const layer_shape& shape,
                                                         const packed_room& room = {},
                                                         const Growth& growth = {},
                                                         const tensor_options& options = {}) noexcept {
        if (shape.is_empty())
            return error{errc::invalid_argument, verb::construct, 0, bytes{0}};
        if (!pool.backend().host_visible())
            return error{errc::unsupported, verb::construct, 0, bytes{0}};
        const std::size_t most = shape.kv_heads * shape.max_rows;
        if (most / shape.kv_heads != shape.max_rows)
            return error{errc::out_of_addresses, verb::construct, 0, bytes{most}};
        auto keys = tensor_type::try_create(pool, {shape.key_width}, most, growth, options);
        if (!keys)
            return keys.error();
        auto values = tensor_type::try_create(pool, {shape.value_width}, most, growth, options);
        if (!values)
            return values.error();
        auto slots = detail::head_slots::create(shape.kv_heads);
        if (!slots)
            return slots.error();
        packed_cache made{shape, room, *std::move(keys), *std::move(values), *std::move(slots)};
        try {
            made.starts_.resize(shape.kv_heads + 1);
            made.wanted_.resize(shape.kv_heads + 1);
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::construct, 0,
                         bytes{shape.kv_heads * sizeof(std::size_t)}};
        }
        return made;
    }

    [[nodiscard]] const layer_shape& shape() const noexcept { return shape_; }
    [[nodiscard]] std::size_t rows(std::size_t head) const noexcept { return slots_[head].rows(); }
    [[nodiscard]] std::size_t live_rows(std::size_t head) const noexcept { return slots_[head].live(); }
    [[nodiscard]] std::span<const position_type> positions(std::size_t head) const noexcept {
        return slots_[head].positions();
    }
    [[nodiscard]] position_type next_position() const noexcept { return slots_[0].next(); }
    /// Rows that fit behind those of a head before the heads are laid out anew.
    [[nodiscard]] std::size_t room(std::size_t head) const noexcept { return width(head) - rows(head); }

    /// O(heads) where every head has room, else O(rows + pages mapped).
    [[nodiscard]] status try_append(std::size_t count) noexcept {
        if (count > shape_.max_rows - slots_.longest())
            return error{errc::limit_exceeded, verb::grow, 0, row_bytes() * count};
        if (const status outcome = slots_.prepare(count); !outcome)
            return outcome;
        bool fits = true;
        wanted_[0] = 0;
        for (std::size_t head = 0; head < slots_.count(); ++head) {
            const std::size_t needed = rows(head) + count;
            const bool has_room = needed <= width(head);
            fits = fits && has_room;
            wanted_[head + 1] =
                wanted_[head] + (has_room ? width(head) : room_.around(needed, shape_.max_rows));
        }
        if (!fits) {
            const std::size_t before = keys_.rows();
            if (const status outcome = keys_.try_resize(wanted_.back()); !outcome)
                return outcome;
            if (const status outcome = values_.try_resize(wanted_.back()); !outcome) {
                keys_.truncate(before);
                return outcome;
            }
            for (std::size_t head = slots_.count(); head-- > 0;) // all go up: the last one first
                move_head(head);
            starts_.swap(wanted_);
        }
        slots_.add(count);
        return {};
    }
    /// No row may have been evicted or moved since they were appended. The memory stays, as room.
    void remove_last(std::size_t count) noexcept { slots_.remove_last(count); }

    [[nodiscard]] tensor_view<T, 2> keys(std::size_t head) noexcept {
        return make_view(keys_.data() + starts_[head] * shape_.key_width, rows(head), shape_.key_width);
    }
    [[nodiscard]] tensor_view<T, 2> values(std::size_t head) noexcept {
        return make_view(values_.data() + starts_[head] * shape_.value_width, rows(head), shape_.value_width);
    }
    /// `invalid_argument` where `heads` has not one entry a KV head.
    [[nodiscard]] status describe(std::span<attention::kv_head<T>> heads) const noexcept {
        if (heads.size() != slots_.count())
            return error{errc::invalid_argument, verb::view, 0, bytes{0}};
        for (std::size_t head = 0; head < heads.size(); ++head)
            heads[head] = {.keys = keys_.data() + starts_[head] * shape_.key_width,
                           .values = values_.data() + starts_[head] * shape_.value_width,
                           .key_stride = static_cast<std::ptrdiff_t>(shape_.key_width),
                           .value_stride = static_cast<std::ptrdiff_t>(shape_.value_width),
                           .rows = rows(head),
                           .positions = positions(head).empty() ? nullptr : positions(head).data()};
        return {};
    }

    [[nodiscard]] status try_evict(const eviction::kept_rows& kept, std::size_t layer) noexcept {
        return slots_.try_evict(kept, layer);
    }

    /// Moves rows inside every head; when no dead row is left, and pages would become free by it, the heads
    /// are brought together too. O(rows).
    template <class Policy>
    requires defrag_policy<Policy, defrag::state, defrag::plan>
    [[nodiscard]] status try_defragment(const Policy& policy, std::span<defrag::plan> plans) noexcept {
        if (plans.size() != slots_.count())
            return error{errc::invalid_argument, verb::defragment, 0, bytes{0}};
        for (std::size_t head = 0; head < plans.size(); ++head) {
            slot_map& slots = slots_[head];
            if (const status planned = policy.plan(detail::state_of(slots, row_bytes()), plans[head]);
                !planned)
                return planned;
            if (const status refusal = slots.rearrange(plans[head]); !refusal)
                return refusal;
            key_column(starts_[head]).move(plans[head].rows);
            value_column(starts_[head]).move(plans[head].rows);
            slots.commit(plans[head].rows_after);
        }
        if (slots_.live() == slots_.rows())
            bring_together();
        return {};
    }

    [[nodiscard]] layer_figures figures() const noexcept {
        return {.rows = slots_.rows(),
                .live_rows = slots_.live(),
                .used = row_bytes() * slots_.live(),
                .mapped = keys_.mapped_bytes() + values_.mapped_bytes(),
                .reserved = keys_.reserved_bytes() + values_.reserved_bytes()};
    }
    /// Checks the book-keeping, O(rows).
    [[nodiscard]] bool verify() const noexcept {
        for (std::size_t head = 0; head < slots_.count(); ++head)
            if (starts_[head] + rows(head) > starts_[head + 1])
                return false;
        return slots_.verify() && keys_.verify() && values_.verify() && starts_.back() <= keys_.rows() &&
               starts_.back() <= values_.rows();
    }

  private:
    packed_cache(const layer_shape& shape, const packed_room& room, tensor_type&& keys, tensor_type&& values,
                 detail::head_slots&& slots) noexcept
        : shape_{shape},
          room_{room},
          keys_{std::move(keys)},
          values_{std::move(values)},
          slots_{std::move(slots)} {}

    /// Rows that a head has place for.
    [[nodiscard]] std::size_t width(std::size_t head) const noexcept {
        return starts_[head + 1] - starts_[head];
    }
    /// Of one head: a key and a value.
    [[nodiscard]] bytes row_bytes() const noexcept {
        return bytes{(shape_.key_width + shape_.value_width) * sizeof(T)};
    }
    [[nodiscard]] detail::column key_column(std::size_t start) noexcept {
        const std::size_t row = shape_.key_width * sizeof(T);
        return {reinterpret_cast<std::byte*>(keys_.data()) + start * row, row, row};
    }
    [[nodiscard]] detail::column value_column(std::size_t start) noexcept {
        const std::size_t row = shape_.value_width * sizeof(T);
        return {reinterpret_cast<std::byte*>(values_.data()) + start * row, row, row};
    }

    /// From where it starts to where it is wanted.
    void move_head(std::size_t head) noexcept {
        key_column(0).move(starts_[head], wanted_[head], rows(head));
        value_column(0).move(starts_[head], wanted_[head], rows(head));
    }
    void bring_together() noexcept {
        wanted_[0] = 0;
        for (std::size_t head = 0; head < slots_.count(); ++head)
            wanted_[head + 1] =
                wanted_[head] + std::min(width(head), room_.around(rows(head), shape_.max_rows));
        const auto pages = [](const tensor_type& tensor, std::size_t rows) {
            return pages_for(tensor.row_bytes() * rows, tensor.stats().page);
        };
        if (pages(keys_, wanted_.back()) == pages(keys_, keys_.rows()) &&
            pages(values_, wanted_.back()) == pages(values_, values_.rows()))
            return;
        for (std::size_t head = 0; head < slots_.count(); ++head) // all go down: the first one first
            move_head(head);
        starts_.swap(wanted_);
        keys_.truncate(starts_.back());
        values_.truncate(starts_.back());
    }

    layer_shape shape_;
    packed_room room_;
    tensor_type keys_;
    tensor_type values_;
    detail::head_slots slots_;
    std::vector<std::size_t> starts_; ///< by head, and behind the last one: in rows
    std::vector<std::size_t> wanted_; ///< as `starts_`: where the heads are going
};

} // namespace vtensor::kv
