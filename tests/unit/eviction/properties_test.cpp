// SPDX-License-Identifier: Apache-2.0
// What every method promises, on random evidence.
#include "all_methods.hpp"
#include "world.hpp"

#include <support/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <set>
#include <vector>

namespace vtensor::testing {

namespace {

/// Worlds of all kinds: prompts, ragged caches, dead rows, rows in any order.
std::vector<world_options> worlds() {
    std::vector<world_options> all;
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        all.push_back({.seed = seed, .layers = 3, .kv_heads = 4, .tokens = 61 + 13 * seed, .identity = true});
        all.push_back({.seed = seed, .kv_heads = 1, .group = 4, .tokens = 50, .identity = true});
        all.push_back({.seed = seed, .layers = 2, .group = 1, .missing = 0.4});
        all.push_back(
            {.seed = seed, .layers = 2, .kv_heads = 3, .missing = 0.5, .ragged = true, .dead = 0.3});
        all.push_back(
            {.seed = seed, .kv_heads = 2, .missing = 0.3, .ragged = true, .dead = 0.5, .shuffled = true});
    }
    return all;
}

/// Chooses with memory that has seen other problems.
eviction::kept_rows choose(const named_method& method, const method_settings& settings, const world& shown) {
    static eviction::workspace memory;
    eviction::kept_rows kept;
    const status outcome = method.choose(settings, shown.evidence(), memory, kept);
    INFO(method.name << ": " << to_string(outcome.error()));
    REQUIRE(outcome.ok());
    REQUIRE(kept.layers() == shown.options().layers);
    REQUIRE(kept.heads() == shown.options().kv_heads);
    return kept;
}

/// The guards among a head's live rows.
std::set<position_type> guards(const named_method& method, const method_settings& settings,
                               const std::vector<position_type>& live, std::size_t tokens) {
    std::set<position_type> all;
    for (const position_type position : live)
        if (position < method.sinks(settings) || position + method.window(settings) >= tokens)
            all.insert(position);
    return all;
}

} // namespace

TEST_CASE("kept slots ascend, are live, contain the guards, and are as many as promised", "[eviction]") {
    for (const world_options& options : worlds())
        for (const named_method& method : all_methods())
            for (const std::size_t budget :
                 {std::size_t{0}, std::size_t{3}, std::size_t{20}, std::size_t{500}}) {
                const world shown{options};
                const method_settings settings{.tokens = budget};
                const auto kept = choose(method, settings, shown);
                INFO(method.name << ", budget " << budget << ", seed " << options.seed);
                const std::size_t even = method.guards_only ? 0 : budget;
                std::size_t model_kept = 0, model_guards = 0, model_live = 0;
                for (std::size_t layer = 0; layer < options.layers; ++layer) {
                    std::size_t layer_kept = 0, layer_guards = 0, layer_live = 0;
                    for (std::size_t head = 0; head < options.kv_heads; ++head) {
                        const auto slots = kept.of(layer, head);
                        REQUIRE(std::adjacent_find(slots.begin(), slots.end(), std::greater_equal<>{}) ==
                                slots.end());
                        const auto live = shown.live(layer, head);
                        const auto positions = shown.kept(kept, layer, head);
                        REQUIRE(positions.size() == slots.size());
                        REQUIRE_FALSE(positions.contains(no_position));
                        const auto guarded = guards(method, settings, live, options.tokens);
                        REQUIRE(std::includes(positions.begin(), positions.end(), guarded.begin(),
                                              guarded.end()));
                        if (method.sharing == shared_among::head)
                            REQUIRE(slots.size() == std::min(live.size(), std::max(even, guarded.size())));
                        layer_kept += slots.size();
                        layer_guards += guarded.size();
                        layer_live += live.size();
                    }
                    if (method.sharing == shared_among::layer)
                        REQUIRE(layer_kept ==
                                std::min(layer_live, std::max(even * options.kv_heads, layer_guards)));
                    model_kept += layer_kept;
                    model_guards += layer_guards;
                    model_live += layer_live;
                }
                if (method.sharing == shared_among::model)
                    REQUIRE(model_kept ==
                            std::min(model_live,
                                     std::max(even * options.kv_heads * options.layers, model_guards)));
            }
}

TEST_CASE("the order of slots and the dead rows among them change nothing", "[eviction]") {
    for (const world_options& options : worlds())
        for (const named_method& method : all_methods()) {
            world_options other = options;
            other.identity = false;
            other.shuffled = !options.shuffled;
            other.dead = options.dead == 0 ? 0.7 : 0;
            const world one{options};
            const world two{other};
            const auto kept_one = choose(method, {}, one);
            const auto kept_two = choose(method, {}, two);
            INFO(method.name << ", seed " << options.seed);
            for (std::size_t layer = 0; layer < options.layers; ++layer)
                for (std::size_t head = 0; head < options.kv_heads; ++head)
                    REQUIRE(one.kept(kept_one, layer, head) == two.kept(kept_two, layer, head));
        }
}

TEST_CASE("permuting the heads permutes what is kept", "[eviction]") {
    for (const world_options& options : worlds())
        for (const named_method& method : all_methods()) {
            world shown{options};
            const auto before = choose(method, {}, shown);
            std::vector<std::vector<std::set<position_type>>> expected(options.layers);
            for (std::size_t layer = 0; layer < options.layers; ++layer)
                for (std::size_t head = 0; head < options.kv_heads; ++head)
                    expected[layer].push_back(shown.kept(before, layer, head));
            std::vector<std::size_t> order(options.kv_heads);
            std::iota(order.begin(), order.end(), std::size_t{0});
            std::rotate(order.begin(), order.begin() + 1, order.end());
            shown.permute_heads(order);
            const auto after = choose(method, {}, shown);
            INFO(method.name << ", seed " << options.seed);
            for (std::size_t layer = 0; layer < options.layers; ++layer)
                for (std::size_t head = 0; head < options.kv_heads; ++head)
                    REQUIRE(shown.kept(after, layer, head) == expected[layer][order[head]]);
        }
}

TEST_CASE("an answer does not depend on other layers unless the scope is the model", "[eviction]") {
    const world shown{{.seed = 9, .layers = 3, .kv_heads = 3, .missing = 0.2, .ragged = true}};
    for (const named_method& method : all_methods()) {
        if (method.sharing == shared_among::model || method.sharing == shared_among::windows)
            continue;
        const auto together = choose(method, {}, shown);
        eviction::workspace memory;
        eviction::kept_rows alone;
        for (std::size_t layer = 0; layer < 3; ++layer) {
            REQUIRE(method.choose({}, std::span{shown.evidence()}.subspan(layer, 1), memory, alone).ok());
            for (std::size_t head = 0; head < 3; ++head)
                REQUIRE(std::ranges::equal(alone.of(0, head), together.of(layer, head)));
        }
    }
}

TEST_CASE("a head without rows, or with dead ones alone, keeps none", "[eviction]") {
    const std::vector<position_type> dead(5, no_position);
    const std::vector<eviction::head_rows> heads{{.rows = 5, .positions = dead.data()}, {}};
    const std::vector<float> numbers(2 * 8 * 5, 1.0f);
    const auto wide = make_view(numbers.data(), 2, 5);
    const eviction::layer_evidence layer{.heads = heads,
                                         .probabilities = make_view(numbers.data(), 2, 8, 5),
                                         .accumulated = wide,
                                         .key_norms = wide,
                                         .key_similarity = wide,
                                         .output_norms = wide,
                                         .recurrence = wide};
    for (const named_method& method : all_methods()) {
        eviction::workspace memory;
        eviction::kept_rows kept;
        INFO(method.name);
        REQUIRE(method.choose({}, {&layer, 1}, memory, kept).ok());
        REQUIRE(kept.total() == 0);
        REQUIRE(method.choose({}, {}, memory, kept).ok());
        REQUIRE(kept.layers() == 0);
    }
}

} // namespace vtensor::testing
