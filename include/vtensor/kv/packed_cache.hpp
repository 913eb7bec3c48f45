// SPDX-License-Identifier: Apache-2.0
//
// The heads of a layer behind one another in one K and one V tensor, each with room to grow. With large pages
// a layer wastes up to one page of keys and one of values instead of one a head, beside the room.
#pragma once

#include <vtensor/attention/problem.hpp>
#include <vtensor/core/abilities.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/detail/shared_tensors.hpp>
#include <vtensor/kv/detail/whole_pages.hpp>
#include <vtensor/kv/layer_cache.hpp>
#include <vtensor/kv/packed_room.hpp>
#include <vtensor/policy/sharing.hpp>

#include <algorithm>
#include <cstddef>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::kv {

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
    using typename base::steps_type;
    using typename base::tensor_type;
    static constexpr bool heads_share_rows = false;

    /// Reserves addresses; maps nothing yet. `invalid_argument` where a size is 0, `unsupported` where the
    /// CPU does not reach the pool's memory.
    [[nodiscard]] static result<packed_cache> try_create(pool_type& pool, const layer_shape& shape,
                                                         const packed_room& room = {},
                                                         const Growth& growth = {},
                                                         const tensor_options& options = {}) noexcept {
        if (!vtensor::detail::reaches_memory(pool.backend()))
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

    /// No row may have been evicted or moved since they were appended. The memory stays, as room.
    void remove_last(std::size_t count) noexcept { slots_.remove_last(count); }

    /// O(heads · log rows): appending one by one never lays out more than appending all at once.
    [[nodiscard]] std::size_t prepared() const noexcept {
        const std::size_t there = base::prepared_rows();
        std::size_t most = std::min(shape_.max_rows - slots_.longest(), slots_.prepared());
        for (std::size_t least = 0; least < most;) { // the largest count whose layout fits
            const std::size_t middle = most - (most - least) / 2;
            if (rows_for(middle) <= there)
                least = middle;
            else
                most = middle - 1;
        }
        return most;
    }
    /// Where a head has no room, all are laid out anew.
    void add_prepared(std::size_t count) noexcept {
        bool fits = true;
        wanted_[0] = 0;
        for (std::size_t head = 0; head < slots_.count(); ++head) {
            fits = fits && base::rows(head) + count <= place_of(head);
            wanted_[head + 1] = wanted_[head] + place_for(head, count);
        }
        if (!fits) {
            base::add_prepared_rows(wanted_.back());
            for (std::size_t head = slots_.count(); head-- > 0;) // all go up: the last one first
                move_head(head);
            starts_.swap(wanted_);
        }
        slots_.add(count);
    }

    /// What a layer has mapped for so many rows a head that were appended at once, none of them evicted.
    [[nodiscard]] static constexpr bytes pages_of(const layer_shape& shape, bytes page, std::size_t rows,
                                                  const packed_room& room = {}) noexcept {
        const std::size_t places = rows == 0 ? 0 : room.around(rows, shape.max_rows);
        return detail::pages_of_rows<T>(shape, 1, page, shape.kv_heads * places);
    }

    // ---- sharing: see `layer_cache` ----
    //
    // The rows of several heads are no prefix of a tensor: they are copied, and no page is ever shared.

    [[nodiscard]] static constexpr std::size_t rows_of_pages(const layer_shape&, bytes) noexcept { return 0; }
    [[nodiscard]] static constexpr bool must_own(std::size_t) noexcept { return false; }
    [[nodiscard]] static status try_own(std::size_t, steps_type&) noexcept { return {}; }
    [[nodiscard]] static status try_make_writable(std::size_t, std::size_t, steps_type&) noexcept {
        return {};
    }
    template <sharing_policy Rule>
    [[nodiscard]] status try_share_prefix_of(const packed_cache& other, std::size_t rows, const Rule&,
                                             steps_type&) noexcept {
        if (slots_.rows() > 0)
            return error{errc::invalid_argument, verb::share, 0, bytes{0}};
        auto slots = detail::head_slots::create(slots_.count());
        if (!slots)
            return slots.error();
        if (const status outcome = slots->copy_prefix(other.slots_, rows); !outcome)
            return outcome;
        wanted_[0] = 0;
        for (std::size_t head = 0; head < slots_.count(); ++head)
            wanted_[head + 1] = wanted_[head] + room_.around((*slots)[head].rows(), shape_.max_rows);
        plan_ = {std::max(wanted_.back(), keys_.rows()), keys_.mapped_bytes(), values_.mapped_bytes()};
        if (const status outcome = base::try_map(); !outcome) {
            base::undo_map();
            return outcome;
        }
        base::add_prepared_rows(wanted_.back());
        starts_.swap(wanted_);
        slots_ = *std::move(slots);
        for (std::size_t head = 0; head < slots_.count(); ++head) {
            const std::size_t count = base::rows(head);
            std::copy_n(other.keys_.data() + other.starts_[head] * shape_.key_width, count * shape_.key_width,
                        keys_.data() + starts_[head] * shape_.key_width);
            std::copy_n(other.values_.data() + other.starts_[head] * shape_.value_width,
                        count * shape_.value_width, values_.data() + starts_[head] * shape_.value_width);
        }
        return {};
    }
    [[nodiscard]] static status try_merge_prefix_of(packed_cache&, std::size_t, steps_type&) noexcept {
        return {};
    }
    void undo_share() noexcept {
        slots_.clear();
        std::fill(starts_.begin(), starts_.end(), std::size_t{0});
        keys_.cut(0);
        values_.cut(0);
        base::undo_map();
    }

    /// What is taken back is room afterwards.
    void take_back(position_type first) noexcept { slots_.take_back(first); }
    /// Brings the heads together, where pages become free by it.
    [[nodiscard]] status try_trim(std::size_t count) noexcept {
        const std::size_t more = std::min(count, shape_.max_rows - slots_.longest());
        if (bring_together(more)) {
            keys_.cut(starts_.back());
            values_.cut(starts_.back());
        }
        return base::trim_to(rows_for(more));
    }

    /// Moves rows inside every head; when no dead row is left, and pages would become free by it, the heads
    /// are brought together too. O(rows).
    template <class Policy>
    requires defrag_policy<Policy, defrag::state, defrag::plan>
    [[nodiscard]] status try_defragment(const Policy& policy, std::span<defrag::plan> plans) noexcept {
        const status outcome = base::move_rows(policy, plans);
        if (outcome && slots_.live() == slots_.rows() && bring_together(0))
            base::truncate(starts_.back());
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
    using base::plan_;
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

    /// Rows that a head gets place for when `count` more are to fit.
    [[nodiscard]] std::size_t place_for(std::size_t head, std::size_t count) const noexcept {
        const std::size_t needed = base::rows(head) + count;
        return needed <= place_of(head) ? place_of(head) : room_.around(needed, shape_.max_rows);
    }
    /// The same of all heads: rows of the tensors.
    [[nodiscard]] std::size_t rows_for(std::size_t count) const noexcept {
        std::size_t sum = 0;
        for (std::size_t head = 0; head < slots_.count(); ++head)
            sum += place_for(head, count);
        return sum;
    }

    /// From where it starts to where it is wanted.
    void move_head(std::size_t head) noexcept {
        const auto whole = [](T* data, std::size_t width) {
            return detail::column{reinterpret_cast<std::byte*>(data), width * sizeof(T), width * sizeof(T)};
        };
        whole(keys_.data(), shape_.key_width).move(starts_[head], wanted_[head], base::rows(head));
        whole(values_.data(), shape_.value_width).move(starts_[head], wanted_[head], base::rows(head));
    }
    /// Each head keeps place for `count` more rows, as far as it has it, and room. False where no page would
    /// become free: then nothing has moved.
    bool bring_together(std::size_t count) noexcept {
        wanted_[0] = 0;
        for (std::size_t head = 0; head < slots_.count(); ++head)
            wanted_[head + 1] =
                wanted_[head] +
                std::min(place_of(head), room_.around(base::rows(head) + count, shape_.max_rows));
        const auto pages = [](const tensor_type& tensor, std::size_t rows) {
            return pages_for(tensor.row_bytes() * rows, tensor.stats().page);
        };
        if (pages(keys_, wanted_.back()) == pages(keys_, keys_.rows()) &&
            pages(values_, wanted_.back()) == pages(values_, values_.rows()))
            return false;
        for (std::size_t head = 0; head < slots_.count(); ++head) // all go down: the first one first
            move_head(head);
        starts_.swap(wanted_);
        return true;
    }

    packed_room room_;
    std::vector<std::size_t> starts_; ///< by head, and behind the last one: in rows
    std::vector<std::size_t> wanted_; ///< as `starts_`: where the heads are going
};

} // namespace vtensor::kv
