// SPDX-License-Identifier: Apache-2.0
//
// When rows were attended to, and how long they were left alone in between: LazyEviction (arXiv 2506.15969).
// Tokens recur, so a row that has been quiet for no longer than it once was may well be wanted again.
#pragma once

#include <vtensor/policy/eviction/detail/row_table.hpp>
#include <vtensor/policy/eviction/evidence.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

namespace vtensor::eviction {

/// The counters of one row.
struct recurrence_counters {
    std::uint32_t last_hit = 0;         ///< the step of the last attention of at least `threshold`
    std::uint32_t longest_interval = 0; ///< the most steps between two of them
};

/// For one layer of one sequence. With G query heads a KV head, a row is hit when one of them hits it. Used
/// like a standard container.
class recurrence_tracker {
  public:
    /// `threshold`: the probability from which a row counts as attended to (α). Throws std::bad_alloc.
    recurrence_tracker(std::size_t kv_heads, float threshold)
        : threshold_{threshold}, counters_{kv_heads}, importance_{kv_heads} {}

    /// One step: with t the number of this call, from 1, every row hit has interval t − last hit, longest
    /// interval the maximum of these, and last hit t; a row that is new begins with last hit t − 1. O(queries
    /// × rows).
    /// Errors: `invalid_argument` where the heads are not those of the constructor or the view does not fit;
    /// `out_of_memory`. Nothing is changed then.
    status observe(std::span<const head_rows> heads,
                   const tensor_view<const float, 3>& probabilities) noexcept {
        std::size_t longest = 0;
        for (const head_rows& head : heads)
            longest = std::max(longest, head.rows);
        const std::size_t kv_heads = counters_.lists();
        if (heads.size() != kv_heads || kv_heads == 0 || probabilities.extents[0] == 0 ||
            probabilities.extents[0] % kv_heads != 0 || probabilities.extents[2] < longest)
            return error{.code = errc::invalid_argument, .where = verb::choose};
        if (const status room = counters_.reserve(longest); !room)
            return room;
        const std::size_t group = probabilities.extents[0] / kv_heads;
        ++step_;
        for (std::size_t head = 0; head < kv_heads; ++head) {
            counters_.resize(head, heads[head].rows, {.last_hit = step_ - 1});
            for (std::size_t member = 0; member < group; ++member)
                observe(probabilities[head * group + member], counters_[head]);
        }
        return {};
    }

    /// What `layer_evidence::recurrence` wants: with t steps observed, last hit l and longest interval m,
    /// 2/(1 + exp(1 + (t − l)/(m + 1e-5))) + (m > 0 ? 2/(1 + exp(m − 1)) : 0). Valid until the next call of
    /// anything. Error: `out_of_memory`.
    result<tensor_view<const float, 2>> importance() noexcept {
        if (const status room = importance_.reserve(counters_.longest()); !room)
            return room;
        for (std::size_t head = 0; head < counters_.lists(); ++head) {
            const std::span<const recurrence_counters> rows = counters_[head];
            importance_.resize(head, rows.size(), 0);
            std::ranges::transform(rows, importance_[head].begin(), [this](const recurrence_counters& row) {
                const auto quiet = static_cast<float>(step_ - row.last_hit);
                const auto interval = static_cast<float>(row.longest_interval);
                const float recent = 2 / (1 + std::exp(1 + quiet / (interval + 1e-5f)));
                return row.longest_interval == 0 ? recent : recent + 2 / (1 + std::exp(interval - 1));
            });
        }
        return importance_.view();
    }

    /// Steps observed.
    [[nodiscard]] std::uint32_t steps() const noexcept { return step_; }
    /// The counters of a KV head's rows, by slot.
    [[nodiscard]] std::span<const recurrence_counters> counters(std::size_t kv_head) const noexcept {
        return counters_[kv_head];
    }

    /// Follows a defragmentation of the rows of one KV head, or of all. `plan` has `rows_after` and a
    /// function `apply(plan, span)` that moves any array by slot.
    template <class Plan>
    void apply(const Plan& plan, std::size_t kv_head) noexcept {
        counters_.apply(plan, kv_head);
    }
    template <class Plan>
    void apply(const Plan& plan) noexcept {
        for (std::size_t head = 0; head < counters_.lists(); ++head)
            counters_.apply(plan, head);
    }
    /// Keeps the rows of `slots`, ascending, as compacting them does.
    void retain(std::size_t kv_head, std::span<const slot_type> slots) noexcept {
        counters_.retain(kv_head, slots);
    }

  private:
    void observe(const tensor_view<const float, 2>& queries, std::span<recurrence_counters> rows) noexcept {
        for (std::size_t query = 0; query < queries.extents[0]; ++query)
            for (std::size_t slot = 0; slot < rows.size(); ++slot) {
                recurrence_counters& row = rows[slot];
                const bool hit = queries(query, slot) >= threshold_;
                const std::uint32_t interval = hit ? step_ - row.last_hit : 0;
                row.longest_interval = std::max(row.longest_interval, interval);
                row.last_hit = hit ? step_ : row.last_hit;
            }
    }

    float threshold_;
    std::uint32_t step_ = 0;
    detail::row_table<recurrence_counters> counters_;
    detail::row_table<float> importance_;
};

} // namespace vtensor::eviction
