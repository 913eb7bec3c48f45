// SPDX-License-Identifier: Apache-2.0
//
// The sum of attention that every row has had so far: the evidence of H2O (arXiv 2306.14048) and of observed
// attention, kept across the steps of a sequence.
#pragma once

#include <vtensor/policy/eviction/detail/row_loops.hpp>
#include <vtensor/policy/eviction/detail/row_table.hpp>
#include <vtensor/policy/eviction/evidence.hpp>

#include <cstddef>
#include <span>

namespace vtensor::eviction {

/// For one layer of one sequence: a sum a query head and slot. Used like a standard container.
class accumulated_attention {
  public:
    /// `query_heads` is a multiple of `kv_heads`; otherwise `add` refuses everything. Throws std::bad_alloc.
    accumulated_attention(std::size_t query_heads, std::size_t kv_heads)
        : group_{kv_heads == 0 ? 0 : query_heads / kv_heads}, sums_{query_heads} {}

    /// Adds the probabilities of all queries shown; rows that are new begin with 0. O(queries × rows).
    /// Errors: `invalid_argument` where the heads are not those of the constructor or the view is too small;
    /// `out_of_memory`. Nothing is changed then.
    status add(std::span<const head_rows> heads, const tensor_view<const float, 3>& probabilities) noexcept {
        std::size_t longest = 0;
        for (const head_rows& head : heads)
            longest = std::max(longest, head.rows);
        if (heads.size() * group_ != sums_.lists() || probabilities.extents[0] != sums_.lists() ||
            probabilities.extents[2] < longest)
            return error{.code = errc::invalid_argument, .where = verb::choose};
        if (const status room = sums_.reserve(longest); !room)
            return room;
        for (std::size_t query_head = 0; query_head < sums_.lists(); ++query_head) {
            sums_.resize(query_head, heads[query_head / group_].rows, 0.0f);
            const auto shown = probabilities[query_head];
            for (std::size_t query = 0; query < shown.extents[0]; ++query)
                add(shown[query], sums_[query_head]);
        }
        return {};
    }

    /// What `layer_evidence::accumulated` wants; valid until the next `add`.
    [[nodiscard]] tensor_view<const float, 2> view() const noexcept { return sums_.view(); }

    /// Follows a defragmentation of the rows of one KV head, or of all. `plan` has `rows_after` and a
    /// function `apply(plan, span)` that moves any array by slot.
    template <class Plan>
    void apply(const Plan& plan, std::size_t kv_head) noexcept {
        for (std::size_t member = 0; member < group_; ++member)
            sums_.apply(plan, kv_head * group_ + member);
    }
    template <class Plan>
    void apply(const Plan& plan) noexcept {
        for (std::size_t list = 0; list < sums_.lists(); ++list)
            sums_.apply(plan, list);
    }
    /// Keeps the rows of `slots`, ascending, as compacting them does.
    void retain(std::size_t kv_head, std::span<const slot_type> slots) noexcept {
        for (std::size_t member = 0; member < group_; ++member)
            sums_.retain(kv_head * group_ + member, slots);
    }

  private:
    static void add(const tensor_view<const float, 1>& row, std::span<float> sums) noexcept {
        if (row.strides[0] == 1)
            return detail::add_row(sums.data(), row.data, sums.size());
        for (std::size_t slot = 0; slot < sums.size(); ++slot)
            sums[slot] += row(slot);
    }

    std::size_t group_;
    detail::row_table<float> sums_;
};

} // namespace vtensor::eviction
