// SPDX-License-Identifier: Apache-2.0
//
// Numbers by slot that live as long as their rows: some lists of equal meaning, one a head, that grow with
// the rows and follow them when a defragmentation moves them.
#pragma once

#include <vtensor/core/error.hpp>
#include <vtensor/core/rows.hpp>
#include <vtensor/view.hpp>

#include <algorithm>
#include <cstddef>
#include <new>
#include <span>
#include <stdexcept>
#include <vector>

namespace vtensor::eviction::detail {

/// Calls the plan's own `apply(plan, span)`.
template <class Plan, class V>
void move_rows(const Plan& plan, std::span<V> by_slot) {
    apply(plan, by_slot);
}

/// `lists` arrays by slot. Lists may have different lengths.
template <class V>
class row_table {
  public:
    explicit row_table(std::size_t lists) : lengths_(lists, 0) {}

    [[nodiscard]] std::size_t lists() const noexcept { return lengths_.size(); }
    [[nodiscard]] std::span<V> operator[](std::size_t list) noexcept {
        return {entries_.data() + list * stride_, lengths_[list]};
    }
    [[nodiscard]] std::span<const V> operator[](std::size_t list) const noexcept {
        return {entries_.data() + list * stride_, lengths_[list]};
    }
    [[nodiscard]] std::size_t longest() const noexcept {
        return lengths_.empty() ? 0 : std::ranges::max(lengths_);
    }
    /// [list, row]; valid until rows are added.
    [[nodiscard]] tensor_view<const V, 2> view() const noexcept {
        tensor_view<const V, 2> all = make_view(entries_.data(), lists(), longest());
        all.strides[0] = static_cast<std::ptrdiff_t>(stride_);
        return all;
    }

    /// Room for `rows` rows in every list. Error: `out_of_memory`, nothing changed. Doubles, so that growing
    /// row by row costs O(1) a row.
    status reserve(std::size_t rows) noexcept {
        if (rows <= stride_)
            return {};
        const std::size_t stride = std::max(rows, 2 * stride_);
        try {
            std::vector<V> wider(lists() * stride);
            for (std::size_t list = 0; list < lists(); ++list)
                std::ranges::copy((*this)[list], wider.begin() + static_cast<std::ptrdiff_t>(list * stride));
            entries_ = std::move(wider);
        } catch (const std::bad_alloc&) {
            return error{.code = errc::out_of_memory, .where = verb::choose};
        } catch (const std::length_error&) {
            return error{.code = errc::out_of_memory, .where = verb::choose};
        }
        stride_ = stride;
        return {};
    }
    /// Makes a list `rows` long, new ones holding `fresh`; there must be room.
    void resize(std::size_t list, std::size_t rows, const V& fresh) noexcept {
        V* const first = entries_.data() + list * stride_;
        if (rows > lengths_[list])
            std::fill(first + lengths_[list], first + rows, fresh);
        lengths_[list] = rows;
    }

    /// Follows a defragmentation of one list's rows.
    template <class Plan>
    void apply(const Plan& plan, std::size_t list) noexcept {
        move_rows(plan, (*this)[list]);
        lengths_[list] = std::min(lengths_[list], static_cast<std::size_t>(plan.rows_after));
    }
    /// Keeps the entries of `slots`, ascending, in that order: what a compaction does.
    void retain(std::size_t list, std::span<const slot_type> slots) noexcept {
        const std::span<V> all = (*this)[list];
        for (std::size_t row = 0; row < slots.size(); ++row)
            all[row] = all[slots[row]];
        lengths_[list] = slots.size();
    }

  private:
    std::vector<std::size_t> lengths_;
    std::size_t stride_ = 0;
    std::vector<V> entries_;
};

} // namespace vtensor::eviction::detail
