// SPDX-License-Identifier: Apache-2.0
//
// What a sequence for attention looks like, apart from its numbers: any shape at all, and any options.
#pragma once

#include <vtensor/attention/problem.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

namespace vtensor::testing {

using random_engine = std::mt19937;

[[nodiscard]] inline std::size_t random_size(random_engine& random, std::size_t low, std::size_t high) {
    return std::uniform_int_distribution<std::size_t>{low, high}(random);
}

/// What a sequence looks like, apart from its numbers.
struct sequence_shape {
    std::size_t queries = 1;
    std::size_t group = 1;         ///< query heads a KV head
    std::vector<std::size_t> rows; ///< one a KV head
    std::size_t key_width = 8;
    std::size_t value_width = 8;
    std::size_t padding = 0;    ///< elements between rows, never to be read
    bool heads_outside = false; ///< queries and outputs as [head][query], else [query][head]
    std::optional<std::uint32_t> first_position{};
    bool gaps = false;                   ///< positions with gaps, in random order; needs `first_position`
    std::size_t dead_in_ten = 0;         ///< so many of ten rows are evicted ones; needs `first_position`
    std::optional<std::size_t> scored{}; ///< the last so many queries want scores
    std::size_t spare_score_columns = 0;

    [[nodiscard]] std::size_t query_heads() const { return group * rows.size(); }
};

/// Any shape at all: group sizes up to 9, lengths from 0, widths that fill no vector.
[[nodiscard]] inline sequence_shape random_shape(random_engine& random) {
    const auto chance = [&](std::size_t one_in) { return random_size(random, 1, one_in) == 1; };
    sequence_shape shape;
    shape.queries = chance(2) ? 1 : random_size(random, 0, 40);
    shape.group = random_size(random, 1, 9);
    const std::size_t longest = chance(4) ? random_size(random, 0, 2) : random_size(random, 1, 150);
    shape.rows.assign(random_size(random, 1, 3), longest);
    if (chance(3))
        std::ranges::generate(shape.rows, [&] { return random_size(random, 0, longest); });
    shape.key_width = chance(3) ? 8 * random_size(random, 1, 16) : random_size(random, 1, 140);
    shape.value_width = chance(2) ? shape.key_width : random_size(random, 1, 140);
    shape.padding = random_size(random, 0, 3);
    shape.heads_outside = chance(2);
    if (chance(3))
        shape.first_position = static_cast<std::uint32_t>(random_size(random, 0, 2 * longest + 4));
    shape.gaps = shape.first_position.has_value() && chance(2);
    if (shape.first_position.has_value() && chance(2))
        shape.dead_in_ten = random_size(random, 1, 10);
    if (chance(2))
        shape.scored = random_size(random, 0, shape.queries);
    shape.spare_score_columns = random_size(random, 0, 2);
    return shape;
}

[[nodiscard]] inline attention::options random_options(random_engine& random) {
    attention::options options;
    if (random_size(random, 0, 2) == 0)
        options.scale = static_cast<float>(random_size(random, 1, 20)) * 0.02f;
    options.causal = random_size(random, 0, 3) != 0;
    if (random_size(random, 0, 2) == 0) {
        options.window = random_size(random, 1, 60);
        options.sinks = random_size(random, 0, 1) == 0 ? 0 : random_size(random, 1, 9);
    }
    return options;
}

} // namespace vtensor::testing
