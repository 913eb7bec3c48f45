// SPDX-License-Identifier: Apache-2.0
//
// What the layouts with one K and one V tensor for all heads of a layer have in common: every head is a
// column of rows in them, with a slot map of its own. Where the columns lie, and when, is the layout's.
#pragma once

#include <vtensor/attention/problem.hpp>
#include <vtensor/core/abilities.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/detail/column.hpp>
#include <vtensor/kv/detail/growing.hpp>
#include <vtensor/kv/detail/head_slots.hpp>
#include <vtensor/kv/detail/tensor_steps.hpp>
#include <vtensor/kv/layer_shape.hpp>
#include <vtensor/memory/row_moves.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>

namespace vtensor::kv::detail {

/// Where the rows of a head begin in a tensor, and how far they are apart, in elements.
struct placement {
    std::size_t first = 0;
    std::size_t stride = 0;
};

/// `Layout` derives from it and has `place(head, width)`: the placement of a head whose rows are `width`
/// wide.
template <class Layout, attention::attention_element T, backend Backend, growth_policy Growth,
          mutex_type Mutex>
class shared_tensors {
    static constexpr bool has_streams = stream_ordered_backend<Backend>;

  public:
    using value_type = T;
    using backend_type = Backend;
    using growth_policy_type = Growth;
    using tensor_type = virtual_tensor<T, Backend, Growth, eviction::keep_all, Mutex>;
    using pool_type = typename tensor_type::pool_type;
    using stream_type = typename tensor_type::stream_type;
    using steps_type = tensor_steps<tensor_type>;

    [[nodiscard]] const layer_shape& shape() const noexcept { return shape_; }
    [[nodiscard]] std::size_t rows(std::size_t head) const noexcept { return slots_[head].rows(); }
    [[nodiscard]] std::size_t live_rows(std::size_t head) const noexcept { return slots_[head].live(); }
    [[nodiscard]] std::span<const position_type> positions(std::size_t head) const noexcept {
        return slots_[head].positions();
    }
    [[nodiscard]] position_type next_position() const noexcept { return slots_[0].next(); }

    [[nodiscard]] tensor_view<T, 2> keys(std::size_t head) noexcept {
        return view_of(keys_.data(), head, shape_.key_width);
    }
    [[nodiscard]] tensor_view<T, 2> values(std::size_t head) noexcept {
        return view_of(values_.data(), head, shape_.value_width);
    }
    /// `invalid_argument` where `heads` has not one entry a KV head.
    [[nodiscard]] status describe(std::span<attention::kv_head<T>> heads) const noexcept {
        if (heads.size() != shape_.kv_heads)
            return error{errc::invalid_argument, verb::view, 0, bytes{0}};
        for (std::size_t head = 0; head < heads.size(); ++head) {
            const placement of_keys = layout().place(head, shape_.key_width);
            const placement of_values = layout().place(head, shape_.value_width);
            heads[head] = {.keys = keys_.data() + of_keys.first,
                           .values = values_.data() + of_values.first,
                           .key_stride = static_cast<std::ptrdiff_t>(of_keys.stride),
                           .value_stride = static_cast<std::ptrdiff_t>(of_values.stride),
                           .rows = rows(head),
                           .positions = positions(head).empty() ? nullptr : positions(head).data()};
        }
        return {};
    }

    [[nodiscard]] status try_prepare_eviction(const eviction::kept_rows& kept, std::size_t layer) noexcept {
        return slots_.try_prepare_eviction(kept, layer);
    }
    [[nodiscard]] status try_evict(const eviction::kept_rows& kept, std::size_t layer) noexcept {
        const status outcome = slots_.try_prepare_eviction(kept, layer);
        if (outcome)
            slots_.evict(kept, layer);
        return outcome;
    }

    // ---- growth: see `layer_cache` ----

    [[nodiscard]] status try_plan(std::size_t count) noexcept {
        if (count > shape_.max_rows - slots_.longest())
            return error{errc::limit_exceeded, verb::grow, 0, row_bytes() * count};
        if (const status outcome = slots_.prepare(count); !outcome)
            return outcome;
        plan_ = {std::max(layout().rows_for(count), keys_.rows()), keys_.mapped_bytes(),
                 values_.mapped_bytes()};
        return {};
    }
    [[nodiscard]] status try_map() noexcept { return map_both(keys_, values_, plan_); }
    void undo_map() noexcept { undo_map_both(keys_, values_, plan_); }
    void drop_surplus() noexcept { drop_surplus_of_both(keys_, values_, plan_); }
    [[nodiscard]] status try_prepare(std::size_t count) noexcept { return prepare_layer(layout(), count); }
    /// O(heads) where memory is there and every head has room, else O(rows + pages mapped).
    [[nodiscard]] status try_append(std::size_t count) noexcept { return append_to_layer(layout(), count); }

    /// Memory of the pages behind the first `rows` rows that other tensors hold too. O(pages).
    [[nodiscard]] bytes shared_bytes(std::size_t rows) const noexcept {
        return keys_.shared_bytes(rows) + values_.shared_bytes(rows);
    }
    [[nodiscard]] layer_figures figures() const noexcept {
        return {.rows = slots_.rows(),
                .live_rows = slots_.live(),
                .used = row_bytes() * slots_.live(),
                .mapped = keys_.mapped_bytes() + values_.mapped_bytes(),
                .reserved = keys_.reserved_bytes() + values_.reserved_bytes(),
                .shared = shared_bytes(0),
                .part_pages = part_page(keys_) + part_page(values_),
                .ahead = pages_ahead(keys_) + pages_ahead(values_)};
    }

  protected:
    struct parts {
        pool_type* pool = nullptr;
        layer_shape shape;
        tensor_type keys;
        tensor_type values;
        head_slots slots;
        bool is_reached = false;
    };
    /// Tensors in which `heads_a_row` heads lie in one row.
    [[nodiscard]] static result<parts> make_parts(pool_type& pool, const layer_shape& shape,
                                                  std::size_t heads_a_row, const Growth& growth,
                                                  const tensor_options& options) noexcept {
        if (shape.is_empty())
            return error{errc::invalid_argument, verb::construct, 0, bytes{0}};
        const std::size_t times = shape.kv_heads / heads_a_row;
        if (shape.max_rows > std::numeric_limits<std::size_t>::max() / times)
            return error{errc::out_of_addresses, verb::construct, 0, bytes{shape.max_rows}};
        const std::size_t most = shape.max_rows * times;
        auto keys = tensor_type::try_create(pool, {heads_a_row, shape.key_width}, most, growth, options);
        if (!keys)
            return keys.error();
        auto values = tensor_type::try_create(pool, {heads_a_row, shape.value_width}, most, growth, options);
        if (!values)
            return values.error();
        auto slots = head_slots::create(shape.kv_heads);
        if (!slots)
            return slots.error();
        return parts{&pool,
                     shape,
                     *std::move(keys),
                     *std::move(values),
                     *std::move(slots),
                     vtensor::detail::reaches_memory(pool.backend())};
    }
    explicit shared_tensors(parts&& made) noexcept
        : pool_{made.pool},
          shape_{made.shape},
          keys_{std::move(made.keys)},
          values_{std::move(made.values)},
          slots_{std::move(made.slots)},
          is_reached_{made.is_reached} {}
    shared_tensors(shared_tensors&&) noexcept = default;
    shared_tensors& operator=(shared_tensors&&) noexcept = default;
    ~shared_tensors() = default;

    /// Of one head: a key and a value.
    [[nodiscard]] bytes row_bytes() const noexcept {
        return bytes{(shape_.key_width + shape_.value_width) * sizeof(T)};
    }

    /// Both tensors have `needed` rows, for which there is memory.
    void add_prepared_rows(std::size_t needed) noexcept {
        keys_.add_prepared(needed);
        values_.add_prepared(needed);
    }
    void truncate(std::size_t needed) noexcept {
        keys_.truncate(needed);
        values_.truncate(needed);
    }
    /// The same behind the work queued on the stream.
    void truncate(std::size_t needed, const stream_type& stream) noexcept requires has_streams {
        for (tensor_type* const one : {&keys_, &values_}) {
            if (!one->try_resize(needed, stream) && !one->try_resize(needed, stream))
                one->cut(needed);
        }
    }
    /// Unmaps what `needed` rows do not occupy.
    [[nodiscard]] status trim_to(std::size_t needed) noexcept {
        if (const status outcome = values_.try_trim(values_.row_bytes() * needed); !outcome)
            return outcome;
        return keys_.try_trim(keys_.row_bytes() * needed);
    }
    /// Rows that both tensors have memory for.
    [[nodiscard]] std::size_t prepared_rows() const noexcept {
        return std::min(keys_.prepared_rows(), values_.prepared_rows());
    }
    /// Moves the rows inside every head as the policy plans it; `stream` is null where the CPU moves them.
    template <class Policy>
    [[nodiscard]] status move_rows(const Policy& policy, std::span<defrag::plan> plans,
                                   const stream_type* stream = nullptr) noexcept {
        if (plans.size() != shape_.kv_heads)
            return error{errc::invalid_argument, verb::defragment, 0, bytes{0}};
        status outcome;
        if (stream == nullptr && !is_reached_)
            outcome = error{errc::unsupported, verb::defragment, 0, bytes{0}};
        std::size_t moved = 0;
        while (outcome && moved < plans.size()) {
            outcome = move_rows_of(moved, policy, plans[moved], stream);
            moved += outcome ? 1u : 0u;
        }
        for (; moved < plans.size(); ++moved)
            plans[moved].reset(state_of(slots_[moved], row_bytes()));
        return outcome;
    }

    /// What is written by the moves is not shared any more, and neither is, where a stream copies them, what
    /// they come from and may have to go back to. Where the second tensor fails the pages of the first are
    /// its own already.
    [[nodiscard]] status own_targets(std::span<const defrag::row_move> moves,
                                     [[maybe_unused]] const stream_type* stream) noexcept {
        if constexpr (Layout::heads_share_rows) {
            if (moves.empty())
                return {};
            std::size_t first = keys_.rows();
            std::size_t last = 0;
            for (const defrag::row_move& move : moves) {
                first =
                    std::min<std::size_t>(first, stream != nullptr ? std::min(move.from, move.to) : move.to);
                last = std::max<std::size_t>(
                    last, (stream != nullptr ? std::max(move.from, move.to) : move.to) + move.count);
            }
            const auto own = [&](tensor_type& tensor) {
                if constexpr (requires { tensor.try_make_writable(first, last, *stream); }) {
                    if (stream != nullptr)
                        return tensor.try_make_writable(first, last - first, *stream);
                }
                return tensor.try_make_writable(first, last - first);
            };
            const status outcome = own(keys_);
            return outcome ? own(values_) : outcome;
        } else {
            return {};
        }
    }

    [[nodiscard]] column column_of(T* data, std::size_t head, std::size_t width) const noexcept {
        const placement at = layout().place(head, width);
        return {reinterpret_cast<std::byte*>(data + at.first), at.stride * sizeof(T), width * sizeof(T)};
    }

    pool_type* pool_;
    layer_shape shape_;
    tensor_type keys_;
    tensor_type values_;
    head_slots slots_;
    growth_plan plan_{};
    bool is_reached_;

  private:
    [[nodiscard]] Layout& layout() noexcept { return static_cast<Layout&>(*this); }
    template <class Policy>
    [[nodiscard]] status move_rows_of(std::size_t head, const Policy& policy, defrag::plan& moves,
                                      const stream_type* stream) noexcept {
        slot_map& slots = slots_[head];
        if (const status planned = policy.plan(state_of(slots, row_bytes()), moves); !planned)
            return planned;
        if (!moves.blocks.empty()) // pages hold several heads
            return error{errc::invalid_argument, verb::defragment, 0, bytes{0}};
        if (const status refusal = slots.rearrange(moves); !refusal)
            return refusal;
        if (const status outcome = own_targets(moves.rows, stream); !outcome)
            return outcome;
        const column keys = column_of(keys_.data(), head, shape_.key_width);
        const column values = column_of(values_.data(), head, shape_.value_width);
        if (const status outcome = move_both(keys, values, moves.rows, stream); !outcome)
            return outcome;
        slots.commit(moves.rows_after);
        return {};
    }
    /// Rows of keys and of values, or of none.
    [[nodiscard]] status move_both(const column& keys, const column& values,
                                   std::span<const defrag::row_move> moves,
                                   [[maybe_unused]] const stream_type* stream) noexcept {
        if constexpr (has_streams) {
            if (stream != nullptr) {
                const auto copies = [&](const column& of) {
                    return vtensor::detail::row_copies<Backend>{pool_->backend(), address{of.start},
                                                                bytes{of.width}, bytes{of.stride}, *stream};
                };
                if (const status outcome = copies(keys).queue(moves); !outcome)
                    return outcome;
                const status outcome = copies(values).queue(moves);
                if (!outcome)
                    copies(keys).queue_back(moves);
                return outcome;
            }
        }
        keys.move(moves);
        values.move(moves);
        return {};
    }

    [[nodiscard]] const Layout& layout() const noexcept { return static_cast<const Layout&>(*this); }
    [[nodiscard]] tensor_view<T, 2> view_of(T* data, std::size_t head, std::size_t width) const noexcept {
        const placement at = layout().place(head, width);
        auto view = make_view(data + at.first, rows(head), width);
        view.strides[0] = static_cast<std::ptrdiff_t>(at.stride);
        return view;
    }
};

} // namespace vtensor::kv::detail
