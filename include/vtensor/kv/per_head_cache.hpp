// SPDX-License-Identifier: Apache-2.0
//
// A K and a V tensor for every KV head. Heads end where they end, and each gives its own pages back; with
// large pages every head wastes up to one page of keys and one of values.
#pragma once

#include <vtensor/attention/problem.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/detail/growing.hpp>
#include <vtensor/kv/detail/tensor_steps.hpp>
#include <vtensor/kv/detail/whole_pages.hpp>
#include <vtensor/kv/layer_cache.hpp>
#include <vtensor/policy/eviction/by_caller.hpp>
#include <vtensor/policy/sharing.hpp>
#include <vtensor/tensor_group.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::kv {

/// See `layer_cache`. All defragmentation policies work, those that move pages too; on a backend with streams
/// `try_defragment` takes one. Used by one thread at a time; the pool must outlive it.
template <attention::attention_element T, backend Backend, growth_policy Growth = growth::exact,
          mutex_type Mutex = no_mutex>
class per_head_cache {
  public:
    using value_type = T;
    using backend_type = Backend;
    using growth_policy_type = Growth;
    using tensor_type = virtual_tensor<T, Backend, Growth, eviction::by_caller, Mutex>;
    using pool_type = typename tensor_type::pool_type;
    using stream_type = typename tensor_type::stream_type;
    using steps_type = detail::tensor_steps<tensor_type>;

    /// Reserves addresses; maps nothing yet. `invalid_argument` where a size is 0.
    [[nodiscard]] static result<per_head_cache> try_create(pool_type& pool, const layer_shape& shape,
                                                           const Growth& growth = {},
                                                           const tensor_options& options = {}) noexcept {
        if (shape.is_empty())
            return error{errc::invalid_argument, verb::construct, 0, bytes{0}};
        per_head_cache made{shape};
        try {
            made.heads_.reserve(shape.kv_heads);
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::construct, 0,
                         bytes{shape.kv_heads * sizeof(head_tensors)}};
        }
        for (std::size_t head = 0; head < shape.kv_heads; ++head) {
            auto keys = tensor_type::try_create(pool, {shape.key_width}, shape.max_rows, growth, options);
            if (!keys)
                return keys.error();
            auto values = tensor_type::try_create(pool, {shape.value_width}, shape.max_rows, growth, options);
            if (!values)
                return values.error();
            made.heads_.push_back({*std::move(keys), *std::move(values), {}});
        }
        return made;
    }

    [[nodiscard]] const layer_shape& shape() const noexcept { return shape_; }
    [[nodiscard]] std::size_t rows(std::size_t head) const noexcept { return heads_[head].keys.rows(); }
    [[nodiscard]] std::size_t live_rows(std::size_t head) const noexcept {
        return heads_[head].keys.live_rows();
    }
    [[nodiscard]] std::span<const position_type> positions(std::size_t head) const noexcept {
        return heads_[head].keys.positions();
    }
    [[nodiscard]] position_type next_position() const noexcept { return heads_[0].keys.next_position(); }

    /// No row may have been evicted or moved since they were appended.
    void remove_last(std::size_t count) noexcept {
        for (head_tensors& head : heads_)
            shrink_both(head, std::min(count, head.keys.rows()));
    }

    // ---- growth: see `layer_cache` ----

    [[nodiscard]] status try_plan(std::size_t count) noexcept {
        for (const head_tensors& head : heads_)
            if (count > shape_.max_rows - head.keys.rows())
                return error{errc::limit_exceeded, verb::grow, 0,
                             (head.keys.row_bytes() + head.values.row_bytes()) * count};
        for (head_tensors& head : heads_) {
            const std::size_t rows = head.keys.rows() + count;
            if (const status outcome = head.keys.try_prepare_slots(rows); !outcome)
                return outcome;
            if (const status outcome = head.values.try_prepare_slots(rows); !outcome)
                return outcome;
            head.plan = {rows, head.keys.mapped_bytes(), head.values.mapped_bytes()};
        }
        return {};
    }
    [[nodiscard]] status try_map() noexcept {
        for (head_tensors& head : heads_)
            if (const status outcome = detail::map_both(head.keys, head.values, head.plan); !outcome)
                return outcome;
        return {};
    }
    void undo_map() noexcept {
        for (std::size_t head = heads_.size(); head-- > 0;)
            detail::undo_map_both(heads_[head].keys, heads_[head].values, heads_[head].plan);
    }
    void drop_surplus() noexcept {
        for (head_tensors& head : heads_)
            detail::drop_surplus_of_both(head.keys, head.values, head.plan);
    }
    [[nodiscard]] status try_prepare(std::size_t count) noexcept {
        return detail::prepare_layer(*this, count);
    }
    /// O(heads + pages mapped).
    [[nodiscard]] status try_append(std::size_t count) noexcept {
        return detail::append_to_layer(*this, count);
    }
    void add_prepared(std::size_t count) noexcept {
        for (head_tensors& head : heads_) {
            head.keys.add_prepared(head.keys.rows() + count);
            head.values.add_prepared(head.values.rows() + count);
        }
    }
    [[nodiscard]] std::size_t prepared() const noexcept {
        std::size_t least = shape_.max_rows;
        for (const head_tensors& head : heads_)
            least = std::min({least, head.keys.prepared_rows() - head.keys.rows(),
                              head.values.prepared_rows() - head.values.rows()});
        return least;
    }

    /// What a layer has mapped for so many rows a head, none of them evicted.
    [[nodiscard]] static constexpr bytes pages_of(const layer_shape& shape, bytes page,
                                                  std::size_t rows) noexcept {
        return detail::pages_of_rows<T>(shape, 1, page, rows) * shape.kv_heads;
    }

    // ---- sharing: see `layer_cache` ----

    [[nodiscard]] static constexpr std::size_t rows_of_pages(const layer_shape& shape, bytes page) noexcept {
        return detail::rows_of_pages<T>(shape, 1, page);
    }
    [[nodiscard]] bool must_own(std::size_t count) const noexcept {
        return count > 0 && std::any_of(heads_.begin(), heads_.end(), [&](const head_tensors& head) {
                   const std::size_t rows = head.keys.rows();
                   return std::min(head.keys.writable_rows(rows), head.values.writable_rows(rows)) <
                          rows + count;
               });
    }
    [[nodiscard]] status try_own(std::size_t count, steps_type& steps) noexcept {
        return each_tensor([&](tensor_type& tensor) {
            return steps.make_writable(tensor, tensor.rows(), tensor.rows() + count);
        });
    }
    [[nodiscard]] status try_make_writable(std::size_t first, std::size_t count, steps_type& steps) noexcept {
        return each_tensor([&](tensor_type& tensor) {
            return first < tensor.rows()
                       ? steps.make_writable(tensor, first, first + std::min(count, tensor.rows() - first))
                       : status{};
        });
    }
    template <sharing_policy Rule>
    [[nodiscard]] status try_share_prefix_of(per_head_cache& other, std::size_t rows, const Rule& rule,
                                             steps_type& steps) noexcept {
        for (std::size_t head = 0; head < heads_.size(); ++head) {
            head_tensors& own = heads_[head];
            head_tensors& from = other.heads_[head];
            const std::size_t count = std::min(rows, from.keys.rows());
            if (const status outcome = steps.share(own.keys, from.keys, count, rule); !outcome)
                return outcome;
            if (const status outcome = steps.share(own.values, from.values, count, rule); !outcome)
                return outcome;
        }
        return {};
    }
    void undo_share() noexcept {} // the steps do it
    [[nodiscard]] status try_merge_prefix_of(per_head_cache& other, std::size_t rows,
                                             steps_type& steps) noexcept {
        for (std::size_t head = 0; head < heads_.size(); ++head) {
            head_tensors& own = heads_[head];
            head_tensors& from = other.heads_[head];
            if (const status outcome = steps.merge(own.keys, from.keys, rows); !outcome)
                return outcome;
            if (const status outcome = steps.merge(own.values, from.values, rows); !outcome)
                return outcome;
        }
        return {};
    }

    /// O(heads), or O(rows) after an eviction.
    void take_back(position_type first) noexcept {
        for (head_tensors& head : heads_) {
            head.keys.take_back(first);
            head.values.take_back(first);
        }
    }
    /// Head by head: where the backend refuses, the heads before that are trimmed.
    [[nodiscard]] status try_trim(std::size_t count) noexcept {
        for (head_tensors& head : heads_) {
            const std::size_t kept = head.keys.rows() + std::min(count, shape_.max_rows - head.keys.rows());
            if (const status outcome = head.values.try_trim(head.values.row_bytes() * kept); !outcome)
                return outcome;
            if (const status outcome = head.keys.try_trim(head.keys.row_bytes() * kept); !outcome)
                return outcome;
        }
        return {};
    }

    [[nodiscard]] tensor_view<T, 2> keys(std::size_t head) noexcept {
        return make_view(heads_[head].keys.data(), rows(head), shape_.key_width);
    }
    [[nodiscard]] tensor_view<T, 2> values(std::size_t head) noexcept {
        return make_view(heads_[head].values.data(), rows(head), shape_.value_width);
    }
    /// `invalid_argument` where `heads` has not one entry a KV head.
    [[nodiscard]] status describe(std::span<attention::kv_head<T>> heads) const noexcept {
        if (heads.size() != heads_.size())
            return error{errc::invalid_argument, verb::view, 0, bytes{0}};
        for (std::size_t head = 0; head < heads.size(); ++head)
            heads[head] = {.keys = heads_[head].keys.data(),
                           .values = heads_[head].values.data(),
                           .key_stride = static_cast<std::ptrdiff_t>(shape_.key_width),
                           .value_stride = static_cast<std::ptrdiff_t>(shape_.value_width),
                           .rows = rows(head),
                           .positions = positions(head).empty() ? nullptr : positions(head).data()};
        return {};
    }

    [[nodiscard]] status try_prepare_eviction(const eviction::kept_rows& kept, std::size_t layer) noexcept {
        if (layer >= kept.layers() || kept.heads() != heads_.size())
            return error{errc::invalid_argument, verb::evict, 0, bytes{0}};
        for (std::size_t head = 0; head < heads_.size(); ++head)
            if (const status outcome = group(heads_[head]).try_prepare_eviction(kept.of(layer, head));
                !outcome)
                return outcome;
        return {};
    }
    [[nodiscard]] status try_evict(const eviction::kept_rows& kept, std::size_t layer) noexcept {
        if (const status outcome = try_prepare_eviction(kept, layer); !outcome)
            return outcome;
        for (std::size_t head = 0; head < heads_.size(); ++head)
            static_cast<void>(group(heads_[head]).try_evict(kept.of(layer, head))); // was prepared
        return {};
    }

    template <class Policy>
    requires defrag_policy<Policy, defrag::state, defrag::plan>
    [[nodiscard]] status try_defragment(const Policy& policy, std::span<defrag::plan> plans) noexcept {
        return each_head(plans, [&](auto tensors, defrag::plan& moves) noexcept {
            return tensors.try_defragment(policy, moves);
        });
    }
    /// The same behind the work queued on the stream.
    template <class Policy>
    requires(stream_ordered_backend<Backend>&& defrag_policy<Policy, defrag::state, defrag::plan>)
        [[nodiscard]] status try_defragment(const Policy& policy, std::span<defrag::plan> plans,
                                            const stream_type& stream) noexcept {
        return each_head(plans, [&](auto tensors, defrag::plan& moves) noexcept {
            return tensors.try_defragment(policy, moves, stream);
        });
    }

    /// Memory of the pages behind the first `rows` rows of each head that other tensors hold too. O(pages).
    [[nodiscard]] bytes shared_bytes(std::size_t rows) const noexcept {
        bytes sum{0};
        for (const head_tensors& head : heads_)
            sum += head.keys.shared_bytes(rows) + head.values.shared_bytes(rows);
        return sum;
    }
    [[nodiscard]] layer_figures figures() const noexcept {
        layer_figures sum;
        sum.shared = shared_bytes(0);
        for (const head_tensors& head : heads_) {
            sum.rows += head.keys.rows();
            sum.live_rows += head.keys.live_rows();
            sum.used += (head.keys.row_bytes() + head.values.row_bytes()) * head.keys.live_rows();
            sum.mapped += head.keys.mapped_bytes() + head.values.mapped_bytes();
            sum.reserved += head.keys.reserved_bytes() + head.values.reserved_bytes();
            sum.part_pages += detail::part_page(head.keys) + detail::part_page(head.values);
            sum.ahead += detail::pages_ahead(head.keys) + detail::pages_ahead(head.values);
        }
        return sum;
    }
    /// Checks the book-keeping, O(rows).
    [[nodiscard]] bool verify() const noexcept {
        return std::all_of(heads_.begin(), heads_.end(), [](const head_tensors& head) {
            return head.keys.verify() && head.values.verify() && head.keys.rows() == head.values.rows();
        });
    }

  private:
    struct head_tensors {
        tensor_type keys;
        tensor_type values;
        detail::growth_plan plan;
    };

    explicit per_head_cache(const layer_shape& shape) noexcept : shape_{shape} {}

    static tensor_group<tensor_type, tensor_type> group(head_tensors& head) noexcept {
        return tensor_group<tensor_type, tensor_type>{head.keys, head.values};
    }
    static void shrink(tensor_type& tensor, std::size_t count) noexcept {
        tensor.truncate(tensor.rows() - count);
    }
    static void shrink_both(head_tensors& head, std::size_t count) noexcept {
        shrink(head.keys, count);
        shrink(head.values, count);
    }
    template <class Step>
    status each_tensor(Step step) noexcept {
        for (head_tensors& head : heads_) {
            if (const status outcome = step(head.keys); !outcome)
                return outcome;
            if (const status outcome = step(head.values); !outcome)
                return outcome;
        }
        return {};
    }
    template <class Move>
    status each_head(std::span<defrag::plan> plans, Move move) noexcept {
        if (plans.size() != heads_.size())
            return error{errc::invalid_argument, verb::defragment, 0, bytes{0}};
        status outcome;
        std::size_t moved = 0;
        while (outcome && moved < plans.size()) {
            outcome = move(group(heads_[moved]), plans[moved]);
            moved += outcome ? 1u : 0u;
        }
        for (; moved < plans.size(); ++moved)
            plans[moved].reset({.rows = rows(moved)});
        return outcome;
    }

    layer_shape shape_;
    std::vector<head_tensors> heads_;
};

} // namespace vtensor::kv
