// SPDX-License-Identifier: Apache-2.0
//
// Many queries of one KV head: a tile of lines passes over the rows that any of its queries sees, in blocks.
// The scratch lies on the stack and is bounded; nothing is allocated.
#pragma once

#include <vtensor/attention/detail/decode_task.hpp>
#include <vtensor/attention/detail/prefill.hpp>
#include <vtensor/attention/detail/visibility.hpp>
#include <vtensor/attention/problem.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numbers>

#if VTENSOR_ATTENTION_HAS_VECTORS

namespace vtensor::attention::detail::HWY_NAMESPACE {

/// Which lines a tile has: `queries` queries from `first_query` on, `heads` query heads from `first_head` on;
/// at most `prefill_lines` in all.
struct line_tile {
    std::size_t first_query = 0;
    std::size_t queries = 0;
    std::size_t first_head = 0;
    std::size_t heads = 0;

    [[nodiscard]] constexpr std::size_t lines() const noexcept { return queries * heads; }
};

/// The work of one tile on one KV head. Writes no scores.
template <class T, class Query>
class prefill_task {
  public:
    prefill_task(const sequence<T, Query>& one, const options& chosen, std::size_t kv_head,
                 const line_tile& tile) noexcept
        : one_{one},
          head_{one.heads[kv_head]},
          tile_{tile},
          key_width_{one.queries.extents[2]},
          value_width_{one.output.extents[2]},
          factor_{scale_of(chosen, key_width_) * std::numbers::log2e_v<float>},
          first_position_{first_query_position(one) + static_cast<std::int64_t>(tile.first_query)},
          mask_{chosen} {
        reference_.fill(lowest);
        total_.fill(0);
        for (std::size_t line = 0; line < tile_.lines(); ++line)
            std::fill_n(output(line), value_width_, 0.0f);
    }

    void run() noexcept {
        const auto last_query = static_cast<std::int64_t>(tile_.queries - 1);
        const row_ranges early = mask_.rows_seen(first_position_, head_.rows);
        const row_ranges late = mask_.rows_seen(first_position_ + last_query, head_.rows);
        if (head_.positions != nullptr) {
            attend_rows(0, head_.rows);
        } else if (late.sinks_end >= early.first) {
            attend_rows(0, late.last);
        } else {
            attend_rows(0, late.sinks_end);
            attend_rows(early.first, late.last);
        }
        for (std::size_t line = 0; line < tile_.lines(); ++line) {
            const float total =
                hn::GetLane(hn::SumOfLanes(floats, hn::Load(floats, total_.data() + line * lanes)));
            scale_output(line, total == 0 ? 0 : 1 / total);
        }
    }

  private:
    [[nodiscard]] std::size_t query_of(std::size_t line) const noexcept { return line / tile_.heads; }
    [[nodiscard]] std::size_t head_of(std::size_t line) const noexcept {
        return tile_.first_head + line % tile_.heads;
    }
    [[nodiscard]] float* output(std::size_t line) const noexcept {
        return &one_.output(tile_.first_query + query_of(line), head_of(line), 0);
    }
    [[nodiscard]] std::int64_t position(std::size_t line) const noexcept {
        return first_position_ + static_cast<std::int64_t>(query_of(line));
    }
    [[nodiscard]] float* logits(std::size_t line) noexcept { return logits_.data() + line * prefill_rows; }

    void attend_rows(std::size_t first, std::size_t last) noexcept {
        for (std::size_t row = first; row < last; row += prefill_rows) {
            const std::size_t end = std::min(row + prefill_rows, last);
            if (head_.positions != nullptr && !seen_by_any(row, end))
                continue;
            multiply_keys_of(row, end);
            for (std::size_t line = 0; line < tile_.lines(); ++line) {
                hide(line, row, end);
                weigh(line);
            }
            add_values_of(row, end);
        }
    }

    [[nodiscard]] bool seen_by_any(std::size_t first, std::size_t last) const noexcept {
        for (std::size_t line = 0; line < tile_.lines(); line += tile_.heads)
            for (std::size_t row = first; row < last; ++row)
                if (mask_.sees(position(line), position_of(head_, row)))
                    return true;
        return false;
    }

    void multiply_keys_of(std::size_t first, std::size_t last) noexcept {
        const row_block<T> keys{.data = head_.keys + static_cast<std::ptrdiff_t>(first) * head_.key_stride,
                                .stride = head_.key_stride,
                                .count = last - first,
                                .width = key_width_};
        std::fill_n(logits_.data(), tile_.lines() * prefill_rows, 0.0f);
        for (std::size_t column = 0; column < key_width_; column += prefill_columns) {
            const std::size_t columns = std::min(prefill_columns, key_width_ - column);
            prepare_queries(column, columns);
            pack_keys(keys, column, columns, packed_);
            multiply_lines(
                tile_.lines(), columns, packed_.data(), prefill_rows,
                [&](std::size_t line) { return queries_.data() + line * prefill_columns; },
                [&](std::size_t line) { return logits(line); });
        }
    }

    /// The queries' columns as floats, scaled. Where all fit at once they are prepared once.
    void prepare_queries(std::size_t column, std::size_t columns) noexcept {
        if (prepared_ && key_width_ <= prefill_columns)
            return;
        prepared_ = true;
        for (std::size_t line = 0; line < tile_.lines(); ++line)
            prepare_query(&one_.queries(tile_.first_query + query_of(line), head_of(line), column), columns,
                          factor_, queries_.data() + line * prefill_columns);
    }

    /// Makes −∞ of what the line does not see in rows [first, last), and of what lies behind them.
    void hide(std::size_t line, std::size_t first, std::size_t last) noexcept {
        float* row_logits = logits(line);
        std::fill(row_logits + (last - first), row_logits + prefill_rows, -HUGE_VALF);
        if (head_.positions == nullptr) {
            const row_ranges seen = mask_.rows_seen(position(line), head_.rows);
            if (seen.first <= first && last <= seen.last)
                return;
        }
        for (std::size_t row = first; row < last; ++row)
            if (!mask_.sees(position(line), position_of(head_, row)))
                row_logits[row - first] = -HUGE_VALF;
    }

    /// Turns a line's logits into weights, as softmax_state does for decoding.
    void weigh(std::size_t line) noexcept {
        float* row_logits = logits(line);
        auto largest = hn::Load(floats, row_logits);
        for (std::size_t v = 1; v < panel_vectors; ++v)
            largest = hn::Max(largest, hn::Load(floats, row_logits + v * lanes));
        auto reference = hn::Set(floats, reference_[line]);
        auto total = hn::Load(floats, total_.data() + line * lanes);
        if (!hn::AllTrue(floats, hn::Le(largest, hn::Add(reference, hn::Set(floats, reference_slack))))) {
            const float moved = std::max(reference_[line], hn::GetLane(hn::MaxOfLanes(floats, largest)));
            const float factor = std::exp2(reference_[line] - moved);
            reference_[line] = moved;
            reference = hn::Set(floats, moved);
            total = hn::Mul(total, hn::Set(floats, factor));
            scale_output(line, factor);
        }
        for (std::size_t v = 0; v < panel_vectors; ++v) {
            const auto weight = exp2(hn::Sub(hn::Load(floats, row_logits + v * lanes), reference));
            hn::Store(weight, floats, row_logits + v * lanes);
            total = hn::Add(total, weight);
        }
        hn::Store(total, floats, total_.data() + line * lanes);
    }

    void add_values_of(std::size_t first, std::size_t last) noexcept {
        const row_block<T> values{.data =
                                      head_.values + static_cast<std::ptrdiff_t>(first) * head_.value_stride,
                                  .stride = head_.value_stride,
                                  .count = last - first,
                                  .width = value_width_};
        for (std::size_t column = 0; column < value_width_; column += prefill_columns) {
            const std::size_t columns = std::min(prefill_columns, value_width_ - column);
            pack_values(values, column, columns, packed_);
            clear_dead(first, last);
            std::size_t panel = 0;
            for (; panel + panel_width <= columns; panel += panel_width)
                multiply_lines(
                    tile_.lines(), last - first, packed_.data() + panel, prefill_columns,
                    [&](std::size_t line) { return logits(line); },
                    [&](std::size_t line) { return output(line) + column + panel; });
            if (panel < columns)
                add_last_columns(last - first, column + panel, columns - panel, packed_.data() + panel);
        }
    }

    /// Makes zeros of the packed values of evicted rows: a weight of 0 does not undo what is no number.
    void clear_dead(std::size_t first, std::size_t last) noexcept {
        if (head_.positions == nullptr)
            return;
        for (std::size_t row = first; row < last; ++row)
            if (is_dead(head_, row))
                std::fill_n(packed_.data() + (row - first) * prefill_columns, prefill_columns, 0.0f);
    }

    /// The columns that fill no panel: through a panel of their own.
    void add_last_columns(std::size_t rows, std::size_t column, std::size_t count,
                          const float* packed) noexcept {
        for (std::size_t line = 0; line < tile_.lines(); ++line) {
            alignas(64) std::array<float, panel_width> sum{};
            std::copy_n(output(line) + column, count, sum.begin());
            multiply_panel<1>(
                rows, packed, prefill_columns, [&](std::size_t) { return logits(line); },
                [&](std::size_t) { return sum.data(); });
            std::copy_n(sum.begin(), count, output(line) + column);
        }
    }

    void scale_output(std::size_t line, float factor) noexcept {
        float* columns = output(line);
        for (std::size_t column = 0; column < value_width_; ++column)
            columns[column] *= factor;
    }

    const sequence<T, Query>& one_;
    kv_head<T> head_;
    line_tile tile_;
    std::size_t key_width_;
    std::size_t value_width_;
    float factor_;
    std::int64_t first_position_;
    visibility mask_;
    bool prepared_ = false;
    std::array<float, prefill_lines> reference_;
    alignas(64) std::array<float, prefill_lines * lanes> total_;
    alignas(64) std::array<float, prefill_lines * prefill_columns> queries_;
    alignas(64) std::array<float, prefill_lines * prefill_rows> logits_;
    alignas(64) packed_block packed_{};
};

} // namespace vtensor::attention::detail::HWY_NAMESPACE

#endif
