// SPDX-License-Identifier: Apache-2.0
//
// One query of one KV head, all its query heads: a single pass over the rows that the query sees, in blocks.
// The scratch lies on the stack and is bounded; nothing is allocated.
#pragma once

#include <vtensor/attention/detail/decode.hpp>
#include <vtensor/attention/detail/score_rows.hpp>
#include <vtensor/attention/detail/softmax_state.hpp>
#include <vtensor/attention/detail/visibility.hpp>
#include <vtensor/attention/problem.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>

#if VTENSOR_ATTENTION_HAS_VECTORS

namespace vtensor::attention::detail::HWY_NAMESPACE {

/// Query heads that one pass over the rows serves at most.
inline constexpr std::size_t pass_heads = 32;
/// Floats of queries that one pass holds: 32 KiB.
inline constexpr std::size_t pass_query_floats = 8192;

/// The floats between two queries in the scratch: whole vectors.
[[nodiscard]] constexpr std::size_t padded_width(std::size_t width) noexcept {
    return (width + lanes - 1) / lanes * lanes;
}

/// How many query heads of this key width one pass can serve; 0 where not even one fits.
[[nodiscard]] constexpr std::size_t heads_in_pass(std::size_t key_width) noexcept {
    return key_width > pass_query_floats ? 0
                                         : std::min(pass_heads, pass_query_floats / padded_width(key_width));
}

/// Converts a query to floats, multiplied by `factor`, zeros up to the padded width.
template <class Query>
void prepare_query(const Query* query, std::size_t width, float factor, float* to) noexcept {
    const auto by = hn::Set(floats, factor);
    std::size_t column = 0;
    for (; column + lanes <= width; column += lanes)
        hn::Store(hn::Mul(load(query + column), by), floats, to + column);
    if (column < width)
        hn::Store(hn::Mul(load_some(query + column, width - column), by), floats, to + column);
}

/// The work of one query on one KV head for up to `heads_in_pass` query heads.
template <class T, class Query>
class decode_task {
  public:
    decode_task(const sequence<T, Query>& one, const options& chosen, std::size_t kv_head, std::size_t query,
                std::size_t first_head, std::size_t heads) noexcept
        : head_{one.heads[kv_head]},
          heads_{heads},
          key_width_{one.queries.extents[2]},
          value_width_{one.output.extents[2]},
          query_stride_{padded_width(key_width_)},
          position_{first_query_position(one) + static_cast<std::int64_t>(query)},
          mask_{chosen} {
        const float factor = scale_of(chosen, key_width_) * std::numbers::log2e_v<float>;
        for (std::size_t head = 0; head < heads_; ++head) {
            prepare_query(&one.queries(query, first_head + head, 0), key_width_, factor,
                          queries_.data() + head * query_stride_);
            output_[head] = &one.output(query, first_head + head, 0);
            std::fill_n(output_[head], value_width_, 0.0f);
        }
        const std::size_t scored = one.scores.data == nullptr ? 0 : one.scores.extents[1];
        scored_ = one.queries.extents[0] - query <= scored && one.scores.extents[2] != 0;
        if (scored_)
            prepare_scores(one.scores, query + scored - one.queries.extents[0], first_head);
    }

    void run() noexcept {
        if (head_.positions != nullptr) {
            attend_rows(0, head_.rows);
            clear_scores(head_.rows, score_columns_);
        } else {
            const row_ranges seen = mask_.rows_seen(position_, head_.rows);
            attend_rows(0, seen.sinks_end);
            clear_scores(seen.sinks_end, seen.first);
            attend_rows(seen.first, seen.last);
            clear_scores(seen.last, score_columns_);
        }
        each_tile([this](std::size_t tile, auto heads) { this->template finish_tile<heads>(tile); });
    }

  private:
    static constexpr std::size_t max_tiles = pass_heads / tile_heads;

    void prepare_scores(const tensor_view<float, 3>& scores, std::size_t row,
                        std::size_t first_head) noexcept {
        score_columns_ = scores.extents[2];
        for (std::size_t tile = 0; tile * tile_heads < heads_; ++tile) {
            std::array<float*, tile_heads> rows{};
            const std::size_t count = std::min(tile_heads, heads_ - tile * tile_heads);
            for (std::size_t head = 0; head < count; ++head)
                rows[head] = &scores(first_head + tile * tile_heads + head, row, 0);
            score_rows_[tile] = score_rows{rows, count, score_columns_};
        }
    }

    void clear_scores(std::size_t first, std::size_t last) noexcept {
        if (scored_)
            for (std::size_t tile = 0; tile * tile_heads < heads_; ++tile)
                score_rows_[tile].clear(first, last);
    }

    /// Calls `body(tile, number of heads as a constant)` for every tile.
    template <class Body>
    VTENSOR_ATTENTION_INLINE void each_tile(Body&& body) {
        for (std::size_t tile = 0; tile * tile_heads < heads_; ++tile)
            switch (std::min(tile_heads, heads_ - tile * tile_heads)) {
            case 1:
                body(tile, std::integral_constant<std::size_t, 1>{});
                break;
            case 2:
                body(tile, std::integral_constant<std::size_t, 2>{});
                break;
            case 3:
                body(tile, std::integral_constant<std::size_t, 3>{});
                break;
            default:
                body(tile, std::integral_constant<std::size_t, 4>{});
                break;
            }
    }

    [[nodiscard]] row_block<T> keys(std::size_t first, std::size_t last) const noexcept {
        return {.data = head_.keys + static_cast<std::ptrdiff_t>(first) * head_.key_stride,
                .stride = head_.key_stride,
                .count = last - first,
                .width = key_width_};
    }
    [[nodiscard]] row_block<T> values(std::size_t first, std::size_t last) const noexcept {
        return {.data = head_.values + static_cast<std::ptrdiff_t>(first) * head_.value_stride,
                .stride = head_.value_stride,
                .count = last - first,
                .width = value_width_};
    }

    /// Rows [first, last), all of them candidates: where there are positions the mask is applied row by row.
    void attend_rows(std::size_t first, std::size_t last) noexcept {
        for (std::size_t row = first; row < last; row += block_rows) {
            const std::size_t end = std::min(row + block_rows, last);
            if (head_.positions != nullptr) {
                list_rows(row, end);
                if (seen_.count == 0) {
                    clear_scores(row, end);
                    continue;
                }
            }
            each_tile([&](std::size_t tile, auto heads) {
                this->template weigh_tile<heads>(tile, row, end, values(row, end));
            });
            const read_ahead<T> next{keys(std::min(row + block_rows, last - 1), last)};
            if (head_.positions == nullptr || seen_.count == end - row)
                add_block(values(row, end), every_row{end - row}, next);
            else
                add_block(values(row, end), seen_, next);
        }
    }

    /// Lists which of the rows [first, last) the query sees.
    void list_rows(std::size_t first, std::size_t last) noexcept {
        seen_.count = 0;
        for (std::size_t row = first; row < last; ++row) {
            // No branch: evicted rows come in no order that could be foreseen.
            const bool sees = mask_.sees(position_, position_of(head_, row));
            seen_.rows[seen_.count] = static_cast<std::uint8_t>(row - first);
            seen_.count += static_cast<std::size_t>(sees);
            is_seen_[row - first] = static_cast<std::uint8_t>(sees);
        }
    }

    template <class Rows>
    VTENSOR_ATTENTION_INLINE void add_block(const row_block<T>& values, const Rows& rows,
                                            const read_ahead<T>& next) noexcept {
        each_tile([&](std::size_t tile, auto heads) {
            std::array<float*, heads> output;
            std::copy_n(output_.begin() + static_cast<std::ptrdiff_t>(tile * tile_heads), heads(),
                        output.begin());
            add_values<heads>(values, rows, next, weights_[tile].data(), output);
        });
    }

    template <std::size_t Heads>
    VTENSOR_ATTENTION_INLINE void weigh_tile(std::size_t tile, std::size_t row, std::size_t end,
                                             const row_block<T>& ahead) noexcept {
        constexpr std::size_t stride = padded_heads<Heads>;
        float* weights = weights_[tile].data();
        multiply_keys<Heads>(keys(row, end), read_ahead<T>{ahead},
                             queries_.data() + tile * tile_heads * query_stride_, query_stride_, weights);
        if (head_.positions != nullptr && seen_.count != end - row)
            hide_rows<stride>(end - row, weights);
        softmax_state::factors rescale;
        const std::size_t count = ((end - row) * stride + lanes - 1) / lanes * lanes;
        if (state_[tile].template weigh<stride>(weights, count, rescale)) {
            for (std::size_t head = 0; head < Heads; ++head)
                scale_output(tile * tile_heads + head, rescale[head]);
            if (scored_)
                score_rows_[tile].template begin<stride>(row, state_[tile]);
        }
        if (scored_)
            score_rows_[tile].template write<stride>(row, weights, end - row);
    }

    template <std::size_t Heads>
    void finish_tile(std::size_t tile) noexcept {
        constexpr std::size_t stride = padded_heads<Heads>;
        for (std::size_t head = 0; head < Heads; ++head) {
            const float total = state_[tile].template total<stride>(head);
            scale_output(tile * tile_heads + head, total == 0 ? 0 : 1 / total);
        }
        if (scored_)
            score_rows_[tile].template finish<stride>(head_.rows, state_[tile]);
    }

    /// Makes −∞ of the logits of the block's rows that are not listed.
    template <std::size_t Stride>
    void hide_rows(std::size_t count, float* logits) const noexcept {
        for (std::size_t row = 0; row < count; ++row)
            for (std::size_t head = 0; head < Stride; ++head)
                logits[row * Stride + head] = is_seen_[row] != 0 ? logits[row * Stride + head] : -HUGE_VALF;
    }

    void scale_output(std::size_t head, float factor) noexcept {
        for (std::size_t column = 0; column < value_width_; ++column)
            output_[head][column] *= factor;
    }

    kv_head<T> head_;
    std::size_t heads_;
    std::size_t key_width_;
    std::size_t value_width_;
    std::size_t query_stride_;
    std::int64_t position_;
    visibility mask_;
    row_list seen_; ///< of a block, where there are positions
    std::array<std::uint8_t, block_rows> is_seen_;
    bool scored_ = false;
    std::size_t score_columns_ = 0;
    std::array<float*, pass_heads> output_;
    std::array<softmax_state, max_tiles> state_;
    std::array<score_rows, max_tiles> score_rows_;
    alignas(64) std::array<std::array<float, block_rows * tile_heads>, max_tiles> weights_;
    alignas(64) std::array<float, pass_query_floats> queries_;
};

} // namespace vtensor::attention::detail::HWY_NAMESPACE

#endif
