// SPDX-License-Identifier: Apache-2.0
// How parts make a policy, and the parts that look at more than one head or at a mask.
#include "brute_force.hpp"
#include "world.hpp"

#include <vtensor/policy/eviction/methods.hpp>

#include <support/catch.hpp>

#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <map>
#include <set>
#include <span>
#include <vector>

namespace vtensor::testing {

namespace {

namespace ev = eviction;
using ev::amount;

template <class Policy>
ev::kept_rows chosen(const Policy& policy, const world& shown) {
    ev::workspace memory;
    ev::kept_rows kept;
    const status outcome = policy.choose(shown.evidence(), memory, kept);
    INFO(to_string(outcome.error()));
    REQUIRE(outcome.ok());
    return kept;
}

/// A part of one's own: every third position, the others by key norm.
struct every_third {
    using category = ev::part::guard;
    [[nodiscard]] constexpr bool keeps(position_type position, position_type) const noexcept {
        return position % 3 == 0;
    }
};

/// The norm, halved for every `half_life` tokens of age.
struct fading_norm {
    using category = ev::part::indicator;
    float half_life = 1024;

    [[nodiscard]] bool valid() const { return half_life > 0; }
    void score(const ev::head_columns& head, std::span<float> scores) const {
        for (std::size_t column = 0; column < scores.size(); ++column) {
            const auto age = static_cast<float>(head.next_position - head.position(column));
            scores[column] =
                head.evidence->key_norms(head.head, head.slot(column)) * std::exp2(-age / half_life);
        }
    }
};

} // namespace

TEST_CASE("a composition finds its parts in any order and completes them", "[eviction]") {
    using one =
        ev::compose<ev::budget::layer_flat, ev::indicator::key_norm, ev::guard::sinks<2>, every_third>;
    using two =
        ev::compose<every_third, ev::guard::sinks<2>, ev::indicator::key_norm, ev::budget::layer_flat>;
    STATIC_REQUIRE(one::scope == eviction_scope::layer);
    STATIC_REQUIRE(ev::compose<>::scope == eviction_scope::tensor);
    STATIC_REQUIRE(std::same_as<ev::with<ev::knorm, ev::budget::global, ev::indicator::key_difference>,
                                ev::compose<ev::budget::global, ev::indicator::key_difference>>);
    STATIC_REQUIRE(one{}.needs() == ev::evidence_needs{.key_norms = true});
    STATIC_REQUIRE(ev::defensive_kv<16>{}.needs() ==
                   ev::evidence_needs{.window_queries = 16, .output_norms = true});
    STATIC_REQUIRE(ev::defensive_kv<16>{}.window() == 16);

    const world shown{{.kv_heads = 3, .missing = 0.2, .ragged = true, .shuffled = true}};
    const auto a = chosen(one{}, shown);
    const auto b = chosen(two{}, shown);
    for (std::size_t head = 0; head < 3; ++head) {
        REQUIRE(std::ranges::equal(a.of(0, head), b.of(0, head)));
        for (const position_type position : shown.live(0, head))
            if (position % 3 == 0 || position < 2)
                REQUIRE(shown.kept(a, 0, head).contains(position));
    }
    const one given{ev::budget::layer_flat{.amount = amount::of_tokens(44)}, {}, {.tokens = 9}, {}};
    REQUIRE(given.get<ev::part::budget>().amount.tokens == 44);
    REQUIRE(given.get<ev::guard::sinks<2>>().tokens == 9);
}

TEST_CASE("members that are set at run time count", "[eviction]") {
    ev::defensive_kv<> policy;
    policy.set_window(7);
    policy.set_amount(amount::removing(0.25));
    REQUIRE(policy.needs().window_queries == 7);
    REQUIRE(policy.window() == 7);
    REQUIRE(policy.get<ev::part::budget>().amount.compression_ratio == 0.25);
    ev::sliding_window<> window;
    window.set_window(9);
    window.set_sinks(2);
    window.set_amount(amount::of_tokens(70)); // it has none: guards only
    const world shown{{}};
    REQUIRE(chosen(window, shown).of(0, 0).size() == 11);
}

TEST_CASE("a policy without a position-wise guard keeps the newest by default", "[eviction]") {
    const world shown{{.missing = 0.3, .dead = 0.2, .shuffled = true}};
    ev::compose<> policy;
    policy.set_amount(amount::of_tokens(12));
    const auto kept = chosen(policy, shown);
    const auto live = shown.live(0, 1);
    REQUIRE(shown.kept(kept, 0, 1) == std::set<position_type>(live.end() - 12, live.end()));
}

TEST_CASE("a mask guards the positions it names", "[eviction]") {
    const world shown{{.missing = 0.2, .ragged = true, .shuffled = true}};
    std::vector<std::uint8_t> mask(50, 0); // shorter than the context
    for (const std::size_t position : {0u, 13u, 14u, 49u})
        mask[position] = 1;
    ev::compose<ev::indicator::key_norm, ev::guard::mask, ev::guard::recent<2>> policy;
    policy.get<ev::guard::mask>().positions = mask;
    policy.set_amount(amount::of_tokens(0));
    const auto kept = chosen(policy, shown);
    for (std::size_t head = 0; head < 2; ++head)
        for (const position_type position : shown.live(0, head))
            REQUIRE(shown.kept(kept, 0, head).contains(position) ==
                    (position >= 98 || (position < 50 && mask[position] != 0)));
}

TEST_CASE("tova shares the mean of the heads that hold a row", "[eviction]") {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        const world shown{{.seed = seed, .kv_heads = 3, .missing = 0.4, .ragged = true, .shuffled = true}};
        ev::tova policy;
        policy.set_amount(amount::of_tokens(20));
        const auto kept = chosen(policy, shown);
        std::map<position_type, std::pair<double, double>> sums;
        for (std::size_t head = 0; head < 3; ++head)
            for (const position_type position : shown.live(0, head))
                for (std::size_t member = 0; member < 2; ++member) {
                    sums[position].first +=
                        static_cast<double>(shown.value(quantity::probability, 0, head, member, 7, position));
                    sums[position].second += 1;
                }
        for (std::size_t head = 0; head < 3; ++head) {
            position_scores scores;
            for (const position_type position : shown.live(0, head))
                scores[position] = position == 99 ? 1e9 : sums[position].first / sums[position].second;
            REQUIRE(shown.kept(kept, 0, head) == best(scores, 20));
        }
    }
}

TEST_CASE("whole windows go together, alike in all heads and layers of a group", "[eviction]") {
    for (std::uint64_t seed = 1; seed <= 5; ++seed)
        for (const bool by_best : {false, true}) {
            const world shown{
                {.seed = seed, .layers = 4, .tokens = 120, .missing = 0.3, .ragged = true, .shuffled = true}};
            const auto decide = [&](auto policy) {
                policy.set_window(8);
                policy.set_amount(amount::of_tokens(40));
                policy.template get<ev::part::budget>().layers_per_group = 2;
                policy.template get<ev::part::budget>().beta = 4;
                return chosen(policy, shown);
            };
            const auto kept = by_best ? decide(ev::window_kv_best<>{}) : decide(ev::window_kv<>{});
            for (std::size_t layer = 0; layer < 4; ++layer) {
                const std::size_t leader = layer / 2 * 2;
                std::map<std::size_t, std::pair<double, double>> windows; // sum over heads, number of heads
                for (std::size_t head = 0; head < 2; ++head) {
                    std::map<std::size_t, double> mine;
                    for (std::size_t member = 0; member < 2; ++member) {
                        std::map<std::size_t, std::vector<double>> tokens;
                        for (const position_type position : shown.live(leader, head)) {
                            if (position >= 112)
                                continue;
                            double sum = 0;
                            for (std::size_t query = 0; query < 8; ++query)
                                sum += static_cast<double>(shown.value(quantity::probability, leader, head,
                                                                       member, query, position));
                            tokens[position / 8].push_back(sum);
                        }
                        for (auto& [window, sums] : tokens) {
                            std::sort(sums.rbegin(), sums.rend());
                            const std::size_t counted =
                                by_best ? std::min<std::size_t>(4, sums.size()) : sums.size();
                            for (std::size_t rank = 0; rank < counted; ++rank)
                                mine[window] += sums[rank] / static_cast<double>(counted) / 2;
                        }
                    }
                    for (const auto& [window, score] : mine) {
                        windows[window].first += score;
                        windows[window].second += 1;
                    }
                }
                position_scores scores;
                for (const auto& [window, sum] : windows)
                    scores[static_cast<position_type>(window)] = sum.first / sum.second;
                // 112 positions; groups of 2 layers get 2 · 40 − 20 = 60 and 2 · 40 / 4 = 20 tokens
                const std::size_t surplus = scores.size() * 8 - (layer < 2 ? 60 : 20);
                const auto stay = best(scores, scores.size() - (surplus + 7) / 8);
                for (std::size_t head = 0; head < 2; ++head)
                    for (const position_type position : shown.live(layer, head))
                        REQUIRE(shown.kept(kept, layer, head).contains(position) ==
                                (position >= 112 || stay.contains(position / 8)));
            }
        }
}

TEST_CASE("pyramids fall from the first layer to the last and keep what an even budget keeps", "[eviction]") {
    const world shown{{.layers = 5, .kv_heads = 1, .tokens = 400, .identity = true}};
    ev::pyramid_snapkv<> policy;
    policy.set_window(4);
    policy.set_amount(amount::of_tokens(100));
    const auto kept = chosen(policy, shown);
    const std::size_t expected[] = {195, 148, 100, 52, 5}; // steps of 47.5, halves to the even number
    std::size_t total = 0;
    for (std::size_t layer = 0; layer < 5; ++layer) {
        total += kept.of(layer, 0).size();
        REQUIRE(kept.of(layer, 0).size() == expected[layer]);
    }
    REQUIRE(total == 500);
    auto& budget = policy.get<ev::part::budget>();
    budget.model_layers = 5; // layer by layer gives the same
    for (std::size_t layer = 0; layer < 5; ++layer) {
        budget.first_layer = layer;
        ev::workspace memory;
        ev::kept_rows alone;
        REQUIRE(policy.choose(std::span{shown.evidence()}.subspan(layer, 1), memory, alone).ok());
        REQUIRE(std::ranges::equal(alone.of(0, 0), kept.of(layer, 0)));
    }
}

TEST_CASE("an indicator of one's own scores by column", "[eviction]") {
    for (const bool shuffled : {false, true}) {
        const world shown{{.kv_heads = 3, .missing = 0.3, .ragged = true, .dead = 0.4, .shuffled = shuffled}};
        ev::compose<fading_norm, ev::guard::recent<5>> policy;
        policy.get<fading_norm>().half_life = 16;
        policy.set_amount(amount::of_tokens(25));
        const auto kept = chosen(policy, shown);
        for (std::size_t head = 0; head < 3; ++head) {
            position_scores scores;
            for (const position_type position : shown.live(0, head)) {
                const double norm = static_cast<double>(shown.value(quantity::norm, 0, head, 0, 0, position));
                scores[position] = position >= 95 ? 1e9 : norm * std::exp2(-(100.0 - position) / 16);
            }
            REQUIRE(shown.kept(kept, 0, head) == best(scores, 25));
        }
        policy.get<fading_norm>().half_life = 0;
        ev::workspace memory;
        ev::kept_rows none;
        REQUIRE(policy.choose(shown.evidence(), memory, none).code() == errc::invalid_argument);
    }
}

TEST_CASE("evidence with other strides, longer rows and more queries is read alike", "[eviction]") {
    const world shown{{.kv_heads = 2, .group = 2, .queries = 8, .tokens = 60, .identity = true}};
    const auto& given = shown.evidence()[0].probabilities;
    // [row, query head, query], 12 queries of which the first 4 are not asked for, 3 rows that are not there
    std::vector<float> turned(63 * 4 * 12, std::numeric_limits<float>::quiet_NaN());
    for (std::size_t head = 0; head < 4; ++head)
        for (std::size_t query = 0; query < 8; ++query)
            for (std::size_t row = 0; row < 60; ++row)
                turned[(row * 4 + head) * 12 + 4 + query] = given(head, query, row);
    ev::layer_evidence other = shown.evidence()[0];
    other.next_position = 0; // one more than the newest
    other.probabilities = {.data = turned.data(), .extents = {4, 12, 63}, .strides = {12, 1, 48}};
    ev::snapkv<8> policy;
    policy.set_amount(amount::of_tokens(20));
    const auto expected = chosen(policy, shown);
    ev::workspace memory;
    ev::kept_rows kept;
    REQUIRE(policy.choose({&other, 1}, memory, kept).ok());
    for (std::size_t head = 0; head < 2; ++head)
        REQUIRE(std::ranges::equal(kept.of(0, head), expected.of(0, head)));

    ev::snapkv<8> greedy = policy; // more queries than are shown: all of them
    greedy.get<ev::part::indicator>().queries = 100;
    const auto all = chosen(greedy, shown);
    for (std::size_t head = 0; head < 2; ++head)
        REQUIRE(std::ranges::equal(all.of(0, head), expected.of(0, head)));
}

TEST_CASE("schedules say when", "[eviction]") {
    const ev::schedule::once_after_prefill once;
    REQUIRE(once.due({.tokens = 50, .prefill_ended = true}));
    REQUIRE_FALSE(once.due({.tokens = 51}));
    REQUIRE_FALSE(once.due({.tokens = 90, .evictions = 1, .prefill_ended = true}));
    const ev::schedule::every<16> every;
    REQUIRE(every.due({.tokens = 33, .prefill_ended = true}));
    REQUIRE(every.due({.tokens = 48}));
    REQUIRE_FALSE(every.due({.tokens = 49}));
    const ev::schedule::lagged<40, 12> lagged;
    REQUIRE(lagged.due({.steps = 24, .rows = 44}));
    REQUIRE_FALSE(lagged.due({.steps = 24, .rows = 40}));
    REQUIRE_FALSE(lagged.due({.steps = 25, .rows = 44}));
    REQUIRE(ev::lazy<40, 12>{}.due({.steps = 36, .rows = 41}));
}

} // namespace vtensor::testing
