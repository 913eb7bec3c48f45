// SPDX-License-Identifier: Apache-2.0
//
// How many questions a recall model still answers after an eviction: the task of recall_task.hpp, every
// method and budget on the same sequences.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace vtensor::bench {

/// Right answers and questions of one kind.
struct tally {
    std::size_t right = 0;
    std::size_t asked = 0;

    void add(bool is_right) noexcept {
        right += is_right ? 1 : 0;
        ++asked;
    }
    tally& operator+=(const tally& other) noexcept {
        right += other.right;
        asked += other.asked;
        return *this;
    }
    [[nodiscard]] double share() const noexcept {
        return asked == 0 ? 0 : static_cast<double>(right) / static_cast<double>(asked);
    }
};

/// Answers under one method and budget.
struct recall_answers {
    tally unseen;         ///< keys that were not asked in the window
    tally seen;           ///< keys that were
    tally aggregate;      ///< the majority of the markers
    std::size_t rows = 0; ///< kept in all heads of all layers and sequences
    std::size_t rows_before = 0;

    recall_answers& operator+=(const recall_answers& other) noexcept {
        unseen += other.unseen;
        seen += other.seen;
        aggregate += other.aggregate;
        rows += other.rows;
        rows_before += other.rows_before;
        return *this;
    }
};

/// One model: `full` with nothing evicted, then [method][budget].
struct recall_result {
    recall_answers full;
    std::vector<std::vector<recall_answers>> answers;
};

/// Runs `sequences` sequences of the task through the model in `directory`. `budgets` are the rows of the
/// body that a head keeps on average, the window beside them. What comes out does not depend on `threads`,
/// except for the choices of the random method. Throws what the decoder throws, and std::runtime_error.
[[nodiscard]] recall_result measure_recall(const std::filesystem::path& directory, std::uint32_t seed,
                                           std::size_t sequences, const std::vector<std::size_t>& budgets,
                                           std::size_t threads);

} // namespace vtensor::bench
