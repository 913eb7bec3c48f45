// SPDX-License-Identifier: Apache-2.0
//
// The memory of a choice, reused from call to call, and the scores of the last one for those who want to see
// them.
#pragma once

#include <vtensor/policy/eviction/detail/arrange.hpp>
#include <vtensor/policy/eviction/detail/check.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>
#include <vtensor/policy/eviction/part.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vtensor::eviction {

/// 14 bytes a row of all layers given together, 18 where a part wants the mean of the planes, and up to 16
/// for each row that competes in one selection. Serves any policy, one call at a time; used like a standard
/// container. Stops allocating once it has seen its largest problem.
class workspace {
  public:
    /// The columns of a head in the last choice: `scores` has one for each of the `scored` first.
    [[nodiscard]] const head_columns& columns(std::size_t layer, std::size_t head) const noexcept {
        return layers_[layer].heads[head];
    }
    [[nodiscard]] std::size_t layers() const noexcept { return layers_.size(); }

    // ---- for policies ----

    [[nodiscard]] std::span<layer_columns> all_layers() noexcept { return layers_; }
    [[nodiscard]] std::span<head_columns> all_heads() noexcept { return heads_; }
    [[nodiscard]] scratch_memory& scratch() noexcept { return scratch_; }

    /// Checks the evidence and lays out the columns of all heads; `window` is the length of the recent
    /// window, and `wants_mean` makes room for head_columns::mean. Throws std::bad_alloc. Error:
    /// `invalid_argument` where evidence is missing or has the wrong shape, layers have different numbers of
    /// heads, a position occurs twice in a head, or is not below `next_position`.
    status lay_out(std::span<const layer_evidence> shown, const evidence_needs& needs, std::size_t window,
                   bool wants_mean) {
        constexpr error malformed{.code = errc::invalid_argument, .where = verb::choose};
        std::size_t rows = 0;
        std::size_t longest = 0;
        for (const layer_evidence& layer : shown) {
            if (layer.heads.size() != shown[0].heads.size() || !detail::covers(layer, needs))
                return malformed;
            for (const head_rows& head : layer.heads)
                rows += head.rows;
            longest = std::max(longest, detail::longest_head(layer));
        }
        const std::size_t heads = shown.empty() ? 0 : shown[0].heads.size();
        layers_.clear();
        layers_.resize(shown.size());
        heads_.assign(shown.size() * heads, {});
        grow(positions_, rows);
        grow(slots_, rows);
        grow(scores_, rows);
        grow(mean_, wants_mean ? rows : 0);
        marks_.assign(std::max(marks_.size(), 2 * rows), 0);
        grow(scratch_.row, longest);
        grow(scratch_.pooled, longest);

        std::size_t offset = 0;
        for (std::size_t layer = 0; layer < shown.size(); ++layer) {
            layers_[layer] = {.heads = std::span{heads_}.subspan(layer * heads, heads),
                              .scratch = &scratch_,
                              .layer = layer,
                              .layers = shown.size(),
                              .window = window};
            if (!lay_out(shown[layer], layers_[layer], offset, rows, wants_mean))
                return malformed;
        }
        return {};
    }

    /// The rows whose columns are marked as kept, for all heads, into the answer being made.
    /// Error: `out_of_memory`. Throws std::bad_alloc.
    status collect() {
        const std::size_t heads = layers_.empty() ? 0 : layers_[0].heads.size();
        if (const status made = answer_.reset(layers_.size(), heads); !made)
            return made;
        for (const head_columns& head : heads_)
            if (const status added = answer_.add(slots_kept(head)); !added)
                return added;
        return {};
    }
    [[nodiscard]] kept_rows& answer() noexcept { return answer_; }

  private:
    template <class V>
    static void grow(std::vector<V>& entries, std::size_t count) {
        if (entries.size() < count)
            entries.resize(count);
    }

    bool lay_out(const layer_evidence& shown, layer_columns& layer, std::size_t& offset, std::size_t rows,
                 bool wants_mean) {
        std::uint64_t next = shown.next_position;
        for (std::size_t number = 0; number < shown.heads.size(); ++number) {
            const head_rows& given = shown.heads[number];
            head_columns& head = layer.heads[number];
            head.evidence = &shown;
            head.head = number;
            if (!detail::arrange(given, head, std::span{positions_}.subspan(offset, given.rows),
                                 std::span{slots_}.subspan(offset, given.rows), room_))
                return false;
            const std::uint64_t after =
                head.count == 0 ? 0 : std::uint64_t{head.position(head.count - 1)} + 1;
            if (shown.next_position == 0)
                next = std::max(next, after);
            else if (after > next)
                return false;
            head.kept = std::span{marks_}.subspan(offset, head.count);
            head.raised = std::span{marks_}.subspan(rows + offset, head.count);
            head.scores = std::span{scores_}.subspan(offset, head.count);
            head.mean = wants_mean ? std::span{mean_}.subspan(offset, head.count) : std::span<float>{};
            offset += given.rows;
        }
        layer.next_position = static_cast<position_type>(next);
        for (head_columns& head : layer.heads) {
            head.next_position = layer.next_position;
            head.scored = columns_before(head, next > layer.window ? next - layer.window : 0);
            head.scores = head.scores.first(head.scored);
            head.raised = head.raised.first(head.scored);
            head.mean = head.mean.empty() ? head.mean : head.mean.first(head.scored);
        }
        return true;
    }

    /// How many columns have a position below `limit`.
    static std::size_t columns_before(const head_columns& head, std::uint64_t limit) noexcept {
        if (head.positions == nullptr)
            return static_cast<std::size_t>(std::min<std::uint64_t>(head.count, limit));
        const position_type* const end = head.positions + head.count;
        return static_cast<std::size_t>(
            std::partition_point(head.positions, end, [=](position_type p) { return p < limit; }) -
            head.positions);
    }

    /// The slots of the marked columns, ascending. O(rows).
    std::span<const slot_type> slots_kept(const head_columns& head) {
        const std::size_t rows = head.evidence->heads[head.head].rows;
        grow(chosen_, rows + 1); // one more: written without a branch
        std::size_t count = 0;
        if (head.slots == nullptr) {
            for (std::size_t column = 0; column < head.count; ++column) {
                chosen_[count] = static_cast<slot_type>(column);
                count += head.kept[column];
            }
            return {chosen_.data(), count};
        }
        scratch_.flags.assign(std::max(scratch_.flags.size(), rows), 0);
        for (std::size_t column = 0; column < head.count; ++column)
            scratch_.flags[head.slots[column]] = head.kept[column];
        for (std::size_t row = 0; row < rows; ++row) {
            chosen_[count] = static_cast<slot_type>(row);
            count += scratch_.flags[row];
        }
        return {chosen_.data(), count};
    }

    std::vector<layer_columns> layers_;
    std::vector<head_columns> heads_;
    std::vector<position_type> positions_;
    std::vector<slot_type> slots_;
    std::vector<slot_type> chosen_;
    std::vector<float> scores_;
    std::vector<float> mean_;
    std::vector<std::uint8_t> marks_;
    scratch_memory scratch_;
    detail::sorting_room room_;
    kept_rows answer_;
};

} // namespace vtensor::eviction
