// SPDX-License-Identifier: Apache-2.0
//
// What a policy decided, against double loops: the worlds that it is asked in, and the comparison.
#pragma once

#include "brute_force.hpp"
#include "world.hpp"

#include <vtensor/policy/eviction/methods.hpp>

#include <support/catch.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace vtensor::testing {

namespace ev = eviction;
using ev::amount;

inline std::vector<world_options> worlds() {
    std::vector<world_options> all;
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        all.push_back({.seed = seed, .kv_heads = 3, .tokens = 80 + 7 * seed, .identity = true});
        all.push_back({.seed = seed, .missing = 0.4, .ragged = true, .dead = 0.4, .shuffled = true});
    }
    all.push_back({.seed = 6, .group = 1, .queries = 1, .tokens = 3000, .identity = true}); // several blocks
    all.push_back({.seed = 7, .group = 3, .queries = 5, .tokens = 2500, .missing = 0.1, .dead = 0.2});
    return all;
}

/// What a policy decided of one layer.
struct choice {
    ev::workspace memory;
    ev::kept_rows kept;

    template <class Policy>
    choice(const Policy& policy, const world& shown) {
        const status outcome = policy.choose(shown.evidence(), memory, kept);
        INFO(to_string(outcome.error()));
        REQUIRE(outcome.ok());
    }
    [[nodiscard]] position_scores scores(std::size_t head, std::size_t layer = 0) const {
        const ev::head_columns& columns = memory.columns(layer, head);
        position_scores all;
        for (std::size_t column = 0; column < columns.scored; ++column)
            all[columns.position(column)] = static_cast<double>(columns.scores[column]);
        return all;
    }
};

inline void require_near(const position_scores& found, const position_scores& expected) {
    REQUIRE(found.size() == expected.size());
    for (const auto& [position, score] : expected) {
        INFO("position " << position << ": " << found.at(position) << ", expected " << score);
        REQUIRE(std::abs(found.at(position) - score) <= 1e-5 * std::abs(score) + 1e-12);
    }
}

inline constexpr std::size_t window = 6;

/// `expected(world, head)` are the scores of one head of layer 0.
template <class Policy>
void require_scores(const std::function<position_scores(const world&, std::size_t)>& expected,
                    const std::function<void(Policy&)>& set = {}) {
    for (const world_options& options : worlds()) {
        const world shown{options};
        Policy policy;
        policy.template get<ev::part::indicator>().queries = options.queries;
        policy.template get<ev::guard::recent<window>>().tokens = window;
        if (set)
            set(policy);
        const choice made{policy, shown};
        for (std::size_t head = 0; head < options.kv_heads; ++head)
            require_near(made.scores(head), expected(shown, head));
    }
}

inline head_planes attention_planes(const world& shown, std::size_t head) {
    return planes_of(shown, 0, head, quantity::probability, shown.options().group, shown.options().queries,
                     window);
}

using queries = ev::indicator::window_queries<>;
using recent = ev::guard::recent<window>;

} // namespace vtensor::testing
