// SPDX-License-Identifier: Apache-2.0
//
// One K and one V tensor a layer, [row, KV head, width]: the usual layout. A page holds rows of all heads, so
// that short sequences waste least; after an eviction that leaves the heads different lengths, memory goes by
// the longest.
#pragma once

#include <vtensor/attention/problem.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/detail/column.hpp>
#include <vtensor/kv/detail/head_slots.hpp>
#include <vtensor/kv/layer_cache.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

namespace vtensor::kv {

/// See `layer_cache`. Every head is a column of the tensors, with its own rows and positions; appending
/// writes one row of every head, each at the end of its own. Rows of one head are moved inside its column, by
/// the CPU: `unsupported` where it does not reach the memory. Pages cannot be moved, because they hold every
/// head. Used by one thread at a time; the pool must outlive it.
template <attention::attention_element T, backend Backend, growth_policy Growth = growth::exact,
          mutex_type Mutex = no_mutex>
class per_layer_cache {
  public:
    using value_type = T;
    using backend_type = Backend;
    using tensor_type = virtual_tensor<T, Backend, Growth, eviction::keep_all, Mutex>;
    using pool_type = typename tensor_type::pool_type;

    /// Reserves addresses; maps nothing yet. `invalid_argument` where a size is 0.
    [[nodiscard]] static result<per_layer_cache> try_create(pool_type& pool, const layer_shape& shape,
                                                            const Growth& growth = {},
                                                            const tensor_options& options = {}) noexcept {
        if (shape.is_empty())
            return error{errc::invalid_argument, verb::construct, 0, bytes{0}};
        auto keys =
            tensor_type::try_create(pool, {shape.kv_heads, shape.key_width}, shape.max_rows, growth, options);
        if (!keys)
            return keys.error();
        auto values = tensor_type::try_create(pool, {shape.kv_heads, shape.value_width}, shape.max_rows,
                                              growth, options);
        if (!values)
            return values.error();
        auto slots = detail::head_slots::create(shape.kv_heads);
        if (!slots)
            return slots.error();
        return per_layer_cache{shape, *std::move(keys), *std::move(values), *std::move(slots),
                               is_reached(pool)};
    }

    [[nodiscard]] const layer_shape& shape() const noexcept { return shape_; }
    [[nodiscard]] std::size_t rows(std::size_t head) const noexcept { return slots_[head].rows(); }
    [[nodiscard]] std::size_t live_rows(std::size_t head) const noexcept { return slots_[head].live(); }
    [[nodiscard]] std::span<const position_type> positions(std::size_t head) const noexcept {
        return slots_[head].positions();
    }
    [[nodiscard]] position_type next_position() const noexcept { return slots_[0].next(); }

    /// O(heads + pages mapped).
    [[nodiscard]] status try_append(std::size_t count) noexcept {
        const std::size_t before = keys_.rows();
        const std::size_t longest = slots_.longest();
        if (count > shape_.max_rows - longest)
            return error{errc::limit_exceeded, verb::grow, 0, row_bytes() * count};
        if (const status outcome = slots_.prepare(count); !outcome)
            return outcome;
        const std::size_t needed = std::max(before, longest + count);
        if (const status outcome = keys_.try_resize(needed); !outcome)
            return outcome;
        if (const status outcome = values_.try_resize(needed); !outcome) {
            keys_.truncate(before);
            return outcome;
        }
        slots_.add(count);
        return {};
    }

    /// No row may have been evicted or moved since they were appended.
    void remove_last(std::size_t count) noexcept {
        slots_.remove_last(count);
        keys_.truncate(slots_.longest());
        values_.truncate(slots_.longest());
    }

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
        for (std::size_t head = 0; head < heads.size(); ++head)
            heads[head] = {.keys = keys_.data() + head * shape_.key_width,
                           .values = values_.data() + head * shape_.value_width,
                           .key_stride = static_cast<std::ptrdiff_t>(shape_.kv_heads * shape_.key_width),
                           .value_stride = static_cast<std::ptrdiff_t>(shape_.kv_heads * shape_.value_width),
                           .rows = rows(head),
                           .positions = positions(head).empty() ? nullptr : positions(head).data()};
        return {};
    }

    [[nodiscard]] status try_evict(const eviction::kept_rows& kept, std::size_t layer) noexcept {
        return slots_.try_evict(kept, layer);
    }

    /// O(rows). The memory behind the longest head leaves, as far as the growth policy gives it up.
    template <class Policy>
    requires defrag_policy<Policy, defrag::state, defrag::plan>
    [[nodiscard]] status try_defragment(const Policy& policy, std::span<defrag::plan> plans) noexcept {
        if (plans.size() != shape_.kv_heads)
            return error{errc::invalid_argument, verb::defragment, 0, bytes{0}};
        if (!is_reached_)
            return error{errc::unsupported, verb::defragment, 0, bytes{0}};
        for (std::size_t head = 0; head < plans.size(); ++head) {
            slot_map& slots = slots_[head];
            if (const status planned = policy.plan(detail::state_of(slots, row_bytes()), plans[head]);
                !planned)
                return planned;
            if (const status refusal = slots.rearrange(plans[head]); !refusal)
                return refusal;
            column_of(keys_.data(), head, shape_.key_width).move(plans[head].rows);
            column_of(values_.data(), head, shape_.value_width).move(plans[head].rows);
            slots.commit(plans[head].rows_after);
        }
        keys_.truncate(slots_.longest());
        values_.truncate(slots_.longest());
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
        return slots_.verify() && keys_.verify() && values_.verify() && slots_.longest() <= keys_.rows() &&
               slots_.longest() <= values_.rows();
    }

  private:
    per_layer_cache(const layer_shape& shape, tensor_type&& keys, tensor_type&& values,
                    detail::head_slots&& slots, bool is_reached) noexcept
        : shape_{shape},
          keys_{std::move(keys)},
          values_{std::move(values)},
          slots_{std::move(slots)},
          is_reached_{is_reached} {}

    static bool is_reached(const pool_type& pool) noexcept {
        if constexpr (host_visible_backend<Backend>)
            return pool.backend().host_visible();
        return false;
    }

    /// Of one head: a key and a value.
    [[nodiscard]] bytes row_bytes() const noexcept {
        return bytes{(shape_.key_width + shape_.value_width) * sizeof(T)};
    }
    [[nodiscard]] tensor_view<T, 2> view_of(T* data, std::size_t head, std::size_t width) const noexcept {
        auto view = make_view(data + head * width, rows(head), width);
        view.strides[0] = static_cast<std::ptrdiff_t>(shape_.kv_heads * width);
        return view;
    }
    [[nodiscard]] detail::column column_of(T* data, std::size_t head, std::size_t width) const noexcept {
        return {reinterpret_cast<std::byte*>(data + head * width), shape_.kv_heads * width * sizeof(T),
                width * sizeof(T)};
    }

    layer_shape shape_;
    tensor_type keys_;
    tensor_type values_;
    detail::head_slots slots_;
    bool is_reached_;
};

} // namespace vtensor::kv
