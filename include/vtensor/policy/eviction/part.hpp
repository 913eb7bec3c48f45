// SPDX-License-Identifier: Apache-2.0
//
// What all parts of an eviction policy share: the categories they belong to, and what they are shown of a
// head and of a layer while a choice is made.
//
// Parts see rows in *columns*: the live rows of a head, oldest position first. So neighbours are neighbouring
// tokens, the recent window is the last columns, and dead rows do not exist, whatever the order of slots.
#pragma once

#include <vtensor/core/rows.hpp>
#include <vtensor/policy/eviction/evidence.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vtensor::eviction {

/// The categories of parts: every part names its own as `category`.
namespace part {
struct indicator {};
struct aggregation {};
struct pooling {};
struct weighting {};
struct protection {};
struct budget {};
struct guard {};
struct selection {};
struct schedule {};
} // namespace part

/// One head while a choice is made. Columns are the live rows by position; see above.
struct head_columns {
    const layer_evidence* evidence = nullptr;
    std::size_t head = 0;                     ///< the KV head's number in the layer
    std::size_t count = 0;                    ///< columns: live rows
    std::size_t scored = 0;                   ///< the first of them, those before the recent window
    const slot_type* slots = nullptr;         ///< by column; null: column c is slot c
    const position_type* positions = nullptr; ///< by column; null: column c has position c
    position_type next_position = 0;          ///< tokens seen so far

    std::span<float> scores{};        ///< by column, `scored` of them; higher is better
    std::span<float> mean{};          ///< mean of the indicator's planes, `scored` of them, where wanted
    std::span<std::uint8_t> kept{};   ///< by column, 1: a guard or already chosen
    std::span<std::uint8_t> raised{}; ///< by column, 1: protected by the first stage

    [[nodiscard]] position_type position(std::size_t column) const noexcept {
        return positions == nullptr ? static_cast<position_type>(column) : positions[column];
    }
    [[nodiscard]] slot_type slot(std::size_t column) const noexcept {
        return slots == nullptr ? static_cast<slot_type>(column) : slots[column];
    }

    /// The first `scored` columns of a row of evidence whose entries are `stride` apart: in place where they
    /// lie together in order, otherwise copied to `scratch`.
    [[nodiscard]] const float* columns_of(const float* row, std::ptrdiff_t stride,
                                          float* scratch) const noexcept {
        if (slots == nullptr && stride == 1)
            return row;
        for (std::size_t column = 0; column < scored; ++column)
            scratch[column] = row[static_cast<std::ptrdiff_t>(slot(column)) * stride];
        return scratch;
    }
};

/// A column that has the score of the last one that is kept.
struct tied_column {
    position_type position = 0;
    std::uint32_t head = 0; ///< its number among the heads that compete
    std::uint32_t column = 0;
};

/// Memory that parts may use while they work; its contents mean nothing before.
struct scratch_memory {
    std::vector<float> row;    ///< as many as the longest head has rows, at least
    std::vector<float> pooled; ///< likewise
    // Those below are made as large as they need to be by who uses them.
    std::vector<float> values;
    std::vector<float> by_position;
    std::vector<std::uint32_t> counts;
    std::vector<std::uint8_t> flags;
    std::vector<tied_column> ties;
};

/// One layer while a choice is made.
struct layer_columns {
    std::span<head_columns> heads;
    scratch_memory* scratch = nullptr;
    std::size_t layer = 0;           ///< its number among the layers given
    std::size_t layers = 1;          ///< how many are given
    std::size_t window = 0;          ///< positions in the recent window
    position_type next_position = 0; ///< tokens seen so far
    double kept_fraction = 1;        ///< what the budget wants to keep of the tokens seen so far
};

} // namespace vtensor::eviction
