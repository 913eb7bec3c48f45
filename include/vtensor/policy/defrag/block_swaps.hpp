// SPDX-License-Identifier: Apache-2.0
//
// Which blocks of pages are worth being mapped elsewhere: the arithmetic of the hybrid policy. It plans
// nothing by itself.
#pragma once

#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/policy/defrag/live_runs.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace vtensor::defrag::detail {

/// Blocks whose pages are mapped anew, and the runs that they form: neighbours that were neighbours.
struct changed_blocks {
    std::size_t blocks = 0;
    std::size_t runs = 0;
    std::size_t rows_after = 0;
};

/// What `remap` would do. O(rows).
[[nodiscard]] inline changed_blocks changed_by_remap(const state& from) noexcept {
    changed_blocks changed;
    const std::size_t end = live_end(from);
    const std::size_t blocks = (end + from.block_rows - 1) / from.block_rows;
    std::size_t kept = 0;
    std::size_t last = blocks; // the block that moved last
    for (std::size_t block = 0; block < blocks; ++block) {
        const std::size_t first = block * from.block_rows;
        if (!any_live(from, first, std::min(first + from.block_rows, end)))
            continue;
        if (kept++ == block)
            continue;
        ++changed.blocks;
        changed.runs += block != last + 1 ? 1u : 0u;
        last = block;
    }
    changed.rows_after = end - (blocks - kept) * from.block_rows;
    return changed;
}

/// Pairs of a sparse block below the final length, the head, and a full one behind it, the tail, that could
/// change places, the most worthwhile first. The block in which the final length lies takes no part, nor one
/// that ends early.
class block_swaps {
  public:
    block_swaps() = default;
    /// O(rows + blocks log blocks). Throws where there is no memory.
    block_swaps(const state& from, std::size_t rows_after) {
        const std::size_t whole = from.rows / from.block_rows;
        live_.resize(whole);
        for (std::size_t block = 0; block < whole; ++block)
            live_[block] = count_live(from, block * from.block_rows, (block + 1) * from.block_rows);
        const std::size_t heads = std::min(whole, rows_after / from.block_rows);
        const std::size_t first_tail = (rows_after + from.block_rows - 1) / from.block_rows;
        rest_end_ = (rows_after + from.block_rows - 1) / from.block_rows;
        for (std::size_t block = 0; block < heads; ++block)
            heads_.push_back(static_cast<std::uint32_t>(block));
        for (std::size_t block = first_tail; block < whole; ++block)
            tails_.push_back(static_cast<std::uint32_t>(block));
        std::sort(heads_.begin(), heads_.end(), [this](std::uint32_t one, std::uint32_t other) {
            return live_[one] != live_[other] ? live_[one] < live_[other] : one > other;
        });
        std::sort(tails_.begin(), tails_.end(), [this](std::uint32_t one, std::uint32_t other) {
            return live_[one] != live_[other] ? live_[one] > live_[other] : one > other;
        });
        ends_early_ = live_end(from) > whole * from.block_rows;
    }

    /// How many pairs spare more than so many rows each.
    [[nodiscard]] std::size_t worth_more_than(double rows) const noexcept {
        std::size_t count = 0;
        while (count < std::min(heads_.size(), tails_.size()) && gain(count) > rows)
            ++count;
        return count;
    }
    /// Rows that need no copying when the first `count` pairs have changed places.
    [[nodiscard]] std::size_t rows_spared(std::size_t count) const noexcept {
        double spared = 0;
        for (std::size_t pair = 0; pair < count; ++pair)
            spared += gain(pair);
        return static_cast<std::size_t>(spared);
    }
    /// The pairs as moves: what is sparsest goes furthest back, where it need not be mapped any more.
    [[nodiscard]] std::vector<block_move> moves(std::size_t count) const {
        std::vector<std::uint32_t> places{tails_.begin(),
                                          tails_.begin() + static_cast<std::ptrdiff_t>(count)};
        std::sort(places.begin(), places.end(), std::greater<>{});
        std::vector<block_move> made;
        for (std::size_t pair = 0; pair < count; ++pair)
            made.push_back({places[pair], heads_[pair], 1});
        return made;
    }
    /// The blocks that are mapped anew by them. Throws where there is no memory.
    [[nodiscard]] changed_blocks changed(std::size_t count) const {
        std::vector<std::size_t> live = live_;
        std::vector<block_move> ends; // what comes where
        for (const block_move& move : moves(count)) {
            std::swap(live[move.from], live[move.to]);
            ends.push_back(move);
            ends.push_back({move.to, move.from, 1});
        }
        // Pages behind the last live row leave with the exchange.
        std::size_t mapped = ends_early_ ? live.size() : rest_end_;
        for (std::size_t block = mapped; block < live.size(); ++block)
            mapped = live[block] != 0 ? block + 1 : mapped;
        std::sort(ends.begin(), ends.end(),
                  [](const block_move& one, const block_move& other) { return one.to < other.to; });
        changed_blocks all;
        const block_move* last = nullptr;
        for (const block_move& end : ends) {
            if (end.to >= mapped)
                break;
            const bool is_next = last != nullptr && end.to == last->to + 1 && end.from == last->from + 1;
            all.runs += is_next ? 0u : 1u;
            ++all.blocks;
            last = &end;
        }
        return all;
    }

  private:
    [[nodiscard]] double gain(std::size_t pair) const noexcept {
        return static_cast<double>(live_[tails_[pair]]) - static_cast<double>(live_[heads_[pair]]);
    }

    std::vector<std::size_t> live_; ///< rows of each block that is whole
    std::vector<std::uint32_t> heads_;
    std::vector<std::uint32_t> tails_;
    std::size_t rest_end_ = 0; ///< blocks that dense rows occupy
    bool ends_early_ = false;  ///< there are live rows behind the last whole block
};

} // namespace vtensor::defrag::detail
