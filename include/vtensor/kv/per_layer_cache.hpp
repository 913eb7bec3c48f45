// SPDX-License-Identifier: Apache-2.0
//
// One K and one V tensor a layer, [row, KV head, width]: the usual layout. A page holds rows of all heads, so
// that short sequences waste least; after an eviction that leaves the heads different lengths, memory goes by
// the longest.
#pragma once

#include <vtensor/attention/problem.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/detail/shared_tensors.hpp>
#include <vtensor/kv/detail/whole_pages.hpp>
#include <vtensor/kv/layer_cache.hpp>
#include <vtensor/policy/sharing.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

namespace vtensor::kv {

/// See `layer_cache`. Every head is a column of the tensors, with its own rows and positions; appending
/// writes one row of every head, each at the end of its own. Rows of one head are moved inside its column: by
/// the CPU, `unsupported` where it does not reach the memory, or on a stream, a copy a row. Pages cannot be
/// moved, because they hold every head. Used by one thread at a time; the pool must outlive it.
template <attention::attention_element T, backend Backend, growth_policy Growth = growth::exact,
          mutex_type Mutex = no_mutex>
class per_layer_cache
    : public detail::shared_tensors<per_layer_cache<T, Backend, Growth, Mutex>, T, Backend, Growth, Mutex> {
    using base = detail::shared_tensors<per_layer_cache, T, Backend, Growth, Mutex>;
    friend base;

  public:
    using typename base::pool_type;
    using typename base::steps_type;
    using typename base::stream_type;
    /// The heads of a token lie side by side, in one row.
    static constexpr bool heads_share_rows = true;

    /// Reserves addresses; maps nothing yet. `invalid_argument` where a size is 0.
    [[nodiscard]] static result<per_layer_cache> try_create(pool_type& pool, const layer_shape& shape,
                                                            const Growth& growth = {},
                                                            const tensor_options& options = {}) noexcept {
        auto parts = base::make_parts(pool, shape, std::max<std::size_t>(shape.kv_heads, 1), growth, options);
        if (!parts)
            return parts.error();
        return per_layer_cache{*std::move(parts)};
    }

    /// No row may have been evicted or moved since they were appended.
    void remove_last(std::size_t count) noexcept {
        slots_.remove_last(count);
        base::truncate(slots_.longest());
    }

    [[nodiscard]] std::size_t prepared() const noexcept {
        const std::size_t longest = slots_.longest();
        const std::size_t there = std::min(base::prepared_rows(), writable_rows());
        return there > longest ? std::min(there - longest, slots_.prepared()) : 0;
    }
    void add_prepared(std::size_t count) noexcept {
        slots_.add(count);
        base::add_prepared_rows(slots_.longest());
    }

    /// What a layer has mapped for so many rows a head, none of them evicted.
    [[nodiscard]] static constexpr bytes pages_of(const layer_shape& shape, bytes page,
                                                  std::size_t rows) noexcept {
        return detail::pages_of_rows<T>(shape, shape.kv_heads, page, rows);
    }

    // ---- sharing: see `layer_cache` ----

    [[nodiscard]] static constexpr std::size_t rows_of_pages(const layer_shape& shape, bytes page) noexcept {
        return detail::rows_of_pages<T>(shape, shape.kv_heads, page);
    }
    [[nodiscard]] bool must_own(std::size_t count) const noexcept {
        return count > 0 && writable_rows() < slots_.longest() + count;
    }
    [[nodiscard]] status try_own(std::size_t count, steps_type& steps) noexcept {
        return make_writable(slots_.shortest(), slots_.longest() + count, steps);
    }
    [[nodiscard]] status try_make_writable(std::size_t first, std::size_t count, steps_type& steps) noexcept {
        const std::size_t longest = slots_.longest();
        return first < longest ? make_writable(first, first + std::min(count, longest - first), steps)
                               : status{};
    }
    template <sharing_policy Rule>
    [[nodiscard]] status try_share_prefix_of(per_layer_cache& other, std::size_t rows, const Rule& rule,
                                             steps_type& steps) noexcept {
        auto slots = detail::head_slots::create(slots_.count());
        if (!slots)
            return slots.error();
        if (const status outcome = slots->copy_prefix(other.slots_, rows); !outcome)
            return outcome;
        if (const status outcome = steps.share(keys_, other.keys_, slots->longest(), rule); !outcome)
            return outcome;
        if (const status outcome = steps.share(values_, other.values_, slots->longest(), rule); !outcome)
            return outcome;
        slots_ = *std::move(slots);
        return {};
    }
    void undo_share() noexcept { slots_.clear(); }
    [[nodiscard]] status try_merge_prefix_of(per_layer_cache& other, std::size_t rows,
                                             steps_type& steps) noexcept {
        const status outcome = steps.merge(keys_, other.keys_, rows);
        return outcome ? steps.merge(values_, other.values_, rows) : outcome;
    }

    /// O(heads), or O(rows) after an eviction.
    void take_back(position_type first) noexcept {
        slots_.take_back(first);
        keys_.cut(slots_.longest());
        values_.cut(slots_.longest());
    }
    [[nodiscard]] status try_trim(std::size_t count) noexcept {
        return base::trim_to(slots_.longest() + std::min(count, shape_.max_rows - slots_.longest()));
    }

    /// O(rows). The memory behind the longest head leaves, as far as the growth policy gives it up.
    template <class Policy>
    requires defrag_policy<Policy, defrag::state, defrag::plan>
    [[nodiscard]] status try_defragment(const Policy& policy, std::span<defrag::plan> plans) noexcept {
        const status outcome = base::move_rows(policy, plans);
        if (outcome)
            base::truncate(slots_.longest());
        return outcome;
    }
    /// The same behind the work queued on the stream.
    template <class Policy>
    requires(stream_ordered_backend<Backend>&& defrag_policy<Policy, defrag::state, defrag::plan>)
        [[nodiscard]] status try_defragment(const Policy& policy, std::span<defrag::plan> plans,
                                            const stream_type& stream) noexcept {
        const status outcome = base::move_rows(policy, plans, &stream);
        if (outcome)
            base::truncate(slots_.longest(), stream);
        return outcome;
    }

    /// Checks the book-keeping, O(rows).
    [[nodiscard]] bool verify() const noexcept {
        return slots_.verify() && keys_.verify() && values_.verify() && slots_.longest() <= keys_.rows() &&
               slots_.longest() <= values_.rows();
    }

  private:
    explicit per_layer_cache(typename base::parts&& made) noexcept : base{std::move(made)} {}

    using base::keys_;
    using base::shape_;
    using base::slots_;
    using base::values_;

    /// Rows up to the first shared page on which a head's next rows would lie.
    [[nodiscard]] std::size_t writable_rows() const noexcept {
        const std::size_t first = slots_.shortest();
        return std::min(keys_.writable_rows(first), values_.writable_rows(first));
    }
    [[nodiscard]] status make_writable(std::size_t first, std::size_t last, steps_type& steps) noexcept {
        const status outcome = steps.make_writable(keys_, first, last);
        return outcome ? steps.make_writable(values_, first, last) : outcome;
    }
    /// Rows of the tensors when every head has `count` more.
    [[nodiscard]] std::size_t rows_for(std::size_t count) const noexcept { return slots_.longest() + count; }
    [[nodiscard]] detail::placement place(std::size_t head, std::size_t width) const noexcept {
        return {head * width, shape_.kv_heads * width};
    }
};

} // namespace vtensor::kv
