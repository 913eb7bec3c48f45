// SPDX-License-Identifier: Apache-2.0
// What is protected, granted and kept against sorting and double loops, on prompts and on ragged caches.
#include "compared.hpp"

#include <algorithm>
#include <set>

namespace vtensor::testing {

TEST_CASE("the first stage by mass secures what a sorted list says", "[eviction]") {
    for (const world_options& options : worlds())
        for (const double threshold : {0.2, 0.9, 2.0}) {
            const world shown{options};
            ev::compose<queries, recent, ev::protection::mass> policy;
            policy.get<ev::part::protection>().threshold = threshold;
            policy.get<ev::part::indicator>().queries = options.queries;
            policy.set_amount(amount::removing(0.5));
            const choice made{policy, shown};
            double bias = 0;
            for (std::size_t head = 0; head < options.kv_heads; ++head) {
                const auto mean = aggregated(attention_planes(shown, head), how::mean);
                auto last = mean.rbegin();
                for (std::size_t count = 0; count < window && last != mean.rend(); ++count, ++last)
                    bias += last->second / static_cast<double>(options.kv_heads);
            }
            std::vector<position_scores> expected;
            double highest = 0;
            for (std::size_t head = 0; head < options.kv_heads; ++head) {
                expected.push_back(aggregated(attention_planes(shown, head), how::mean));
                for (const auto& [position, score] : expected.back())
                    highest = std::max(highest, score);
            }
            for (std::size_t head = 0; head < options.kv_heads; ++head) {
                position_scores& mean = expected[head];
                const double total = mean_of(mean) * static_cast<double>(mean.size());
                const auto limit = static_cast<std::size_t>(0.5 * static_cast<double>(mean.size())) - window;
                std::size_t count = 0;
                double sum = 0;
                for (; count < mean.size(); ++count) {
                    const auto more = best(mean, count + 1);
                    sum = 0;
                    for (const position_type position : more)
                        sum += mean[position];
                    if (sum >= (threshold - bias) * total)
                        break;
                }
                const auto secured = best(mean, std::min(count, limit));
                for (const position_type position : secured)
                    mean[position] = highest;
                require_near(made.scores(head), mean);
            }
            if (options.tokens > 1000)
                break; // the sorted list above is slow
        }
}

TEST_CASE("the best share is secured by the scores before weighting", "[eviction]") {
    for (const world_options& options : worlds()) {
        const world shown{options};
        ev::compose<queries, recent, ev::protection::best_share, ev::weighting::output_norms> policy;
        policy.get<ev::part::indicator>().queries = options.queries;
        policy.set_amount(amount::of_tokens(31));
        const choice made{policy, shown};
        std::vector<position_scores> expected;
        std::vector<std::set<position_type>> secured;
        double highest = 0;
        for (std::size_t head = 0; head < options.kv_heads; ++head) {
            position_scores scores = aggregated(attention_planes(shown, head), how::mean);
            const std::size_t guarded = shown.live(0, head).size() - scores.size();
            secured.push_back(best(scores, 15 - guarded)); // int(31/2)
            for (auto& [position, score] : scores) {
                score = (score + 1e-4) *
                        static_cast<double>(shown.value(quantity::output, 0, head, 0, 0, position));
                highest = std::max(highest, score);
            }
            expected.push_back(scores);
        }
        for (std::size_t head = 0; head < options.kv_heads; ++head) {
            for (const position_type position : secured[head])
                expected[head][position] = highest;
            require_near(made.scores(head), expected[head]);
        }
    }
}

TEST_CASE("h2o keeps the heavy hitters and the recent rows", "[eviction]") {
    for (const world_options& options : worlds()) {
        const world shown{options};
        ev::h2o<20, 8> policy;
        const choice made{policy, shown};
        for (std::size_t head = 0; head < options.kv_heads; ++head) {
            std::set<position_type> expected;
            position_scores older;
            for (const position_type position : shown.live(0, head)) {
                double sum = 0;
                for (std::size_t member = 0; member < options.group; ++member)
                    sum +=
                        static_cast<double>(shown.value(quantity::accumulated, 0, head, member, 0, position));
                if (position + 8 >= options.tokens)
                    expected.insert(position);
                else
                    older[position] = sum;
            }
            expected.merge(best(older, 20 - expected.size()));
            REQUIRE(shown.kept(made.kept, 0, head) == expected);
        }
    }
}

TEST_CASE("a sliding window keeps the sinks and the last positions", "[eviction]") {
    for (const world_options& options : worlds()) {
        const world shown{options};
        const choice made{ev::sliding_window<5, 17>{}, shown};
        for (std::size_t head = 0; head < options.kv_heads; ++head) {
            std::set<position_type> expected;
            for (const position_type position : shown.live(0, head))
                if (position < 5 || position + 17 >= options.tokens)
                    expected.insert(position);
            REQUIRE(shown.kept(made.kept, 0, head) == expected);
        }
    }
}

TEST_CASE("budgets of heads, layers and the model share rows as sorting does", "[eviction]") {
    for (world_options options : worlds()) {
        options.layers = 3;
        const world shown{options};
        std::vector<position_scores> heads;
        for (std::size_t layer = 0; layer < options.layers; ++layer)
            for (std::size_t head = 0; head < options.kv_heads; ++head)
                heads.push_back(
                    aggregated(planes_of(shown, layer, head, quantity::norm, 1, 1, 0), how::mean));
        for (auto& head : heads)
            for (auto& [position, score] : head)
                score = -score;
        const auto require_kept = [&](const choice& made,
                                      const std::vector<std::set<position_type>>& wanted) {
            for (std::size_t layer = 0; layer < options.layers; ++layer)
                for (std::size_t head = 0; head < options.kv_heads; ++head)
                    REQUIRE(shown.kept(made.kept, layer, head) == wanted[layer * options.kv_heads + head]);
        };
        constexpr std::size_t even = 15;
        using norms = ev::indicator::key_norm;
        ev::compose<norms, ev::budget::global> model;
        model.set_amount(amount::of_tokens(even));
        require_kept(choice{model, shown}, best_of_all(heads, even * heads.size()));

        ev::compose<norms, ev::budget::layer_flat> flat;
        flat.set_amount(amount::of_tokens(even));
        ev::compose<norms, ev::budget::per_head_floor> floor;
        floor.set_amount(amount::of_tokens(even));
        floor.get<ev::part::budget>().floor = 0.8;
        std::vector<std::set<position_type>> shared, floored;
        for (std::size_t layer = 0; layer < options.layers; ++layer) {
            std::vector<position_scores> mine(
                heads.begin() + static_cast<std::ptrdiff_t>(layer * options.kv_heads),
                heads.begin() + static_cast<std::ptrdiff_t>((layer + 1) * options.kv_heads));
            for (auto& chosen : best_of_all(mine, even * options.kv_heads))
                shared.push_back(chosen);
            for (auto& head : mine)
                for (const position_type position : best(head, 12)) // int(0.8 · 15)
                    head[position] += 1000;
            for (auto& chosen : best_of_all(mine, even * options.kv_heads))
                floored.push_back(chosen);
        }
        require_kept(choice{flat, shown}, shared);
        require_kept(choice{floor, shown}, floored);
    }
}

TEST_CASE("equal scores leave the newer rows", "[eviction]") {
    world shown{{.kv_heads = 3, .tokens = 40, .missing = 0.2, .shuffled = true}};
    for (float& norm : shown.stored(0).norms)
        norm = 1;
    ev::compose<ev::indicator::key_norm, ev::budget::layer_flat> policy;
    policy.set_amount(amount::of_tokens(5));
    const choice made{policy, shown};
    for (std::size_t head = 0; head < 3; ++head) {
        auto live = shown.live(0, head);
        const std::set<position_type> newest(live.end() - 5, live.end());
        REQUIRE(shown.kept(made.kept, 0, head) == newest);
    }
}

} // namespace vtensor::testing
