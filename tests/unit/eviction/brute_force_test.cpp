// SPDX-License-Identifier: Apache-2.0
// Every part against a double loop, on prompts and on ragged caches with dead rows in any order.
#include "brute_force.hpp"
#include "world.hpp"

#include <vtensor/policy/eviction/methods.hpp>

#include <support/catch.hpp>

#include <cstddef>
#include <functional>
#include <set>
#include <vector>

namespace vtensor::testing {

namespace {

namespace ev = eviction;
using ev::amount;

std::vector<world_options> worlds() {
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

void require_near(const position_scores& found, const position_scores& expected) {
    REQUIRE(found.size() == expected.size());
    for (const auto& [position, score] : expected) {
        INFO("position " << position << ": " << found.at(position) << ", expected " << score);
        REQUIRE(std::abs(found.at(position) - score) <= 1e-5 * std::abs(score) + 1e-12);
    }
}

constexpr std::size_t window = 6;

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

head_planes attention_planes(const world& shown, std::size_t head) {
    return planes_of(shown, 0, head, quantity::probability, shown.options().group, shown.options().queries,
                     window);
}

using queries = ev::indicator::window_queries<>;
using recent = ev::guard::recent<window>;

} // namespace

TEST_CASE("means, maxima and defensive maxima of planes are those of a double loop", "[eviction]") {
    require_scores<ev::compose<queries, recent>>([](const world& shown, std::size_t head) {
        return aggregated(attention_planes(shown, head), how::mean);
    });
    require_scores<ev::compose<queries, recent, ev::aggregate::max>>(
        [](const world& shown, std::size_t head) {
            return aggregated(attention_planes(shown, head), how::max);
        });
    require_scores<ev::compose<queries, recent, ev::aggregate::defensive>>(
        [](const world& shown, std::size_t head) {
            position_scores scores = aggregated(attention_planes(shown, head), how::max);
            clamp_at_mean(scores);
            return scores;
        });
}

TEST_CASE("pooling is that of a double loop for every width, with and without its sum", "[eviction]") {
    for (const std::size_t width :
         {std::size_t{1}, std::size_t{3}, std::size_t{5}, std::size_t{7}, std::size_t{9}, std::size_t{255}})
        for (const bool keep_sum : {false, true}) {
            INFO("width " << width << ", sum kept: " << keep_sum);
            const auto expected = [&](how way) {
                return [=](const world& shown, std::size_t head) {
                    head_planes planes = attention_planes(shown, head);
                    pool_all(planes, width, keep_sum);
                    return aggregated(planes, way);
                };
            };
            const auto set = [&](auto& policy) {
                policy.template get<ev::part::pooling>().width = width;
                policy.template get<ev::part::pooling>().keep_row_sum = keep_sum;
            };
            require_scores<ev::compose<queries, recent, ev::pooling::average<5>>>(expected(how::mean), set);
            require_scores<ev::compose<queries, recent, ev::pooling::average<5>, ev::aggregate::max>>(
                expected(how::max), set);
        }
}

TEST_CASE("defensive scores are at least the maxima and at least their mean", "[eviction]") {
    for (const world_options& options : worlds()) {
        const world shown{options};
        const choice defensive{ev::compose<queries, recent, ev::aggregate::defensive>{}, shown};
        const choice most{ev::compose<queries, recent, ev::aggregate::max>{}, shown};
        for (std::size_t head = 0; head < options.kv_heads; ++head) {
            const position_scores maxima = most.scores(head);
            const double mean = mean_of(maxima) * (1 - 1e-6);
            for (const auto& [position, score] : defensive.scores(head)) {
                REQUIRE(score >= maxima.at(position));
                REQUIRE(score >= mean);
            }
        }
    }
}

TEST_CASE("weightings are those of a double loop", "[eviction]") {
    const auto norm = [](const world& shown, std::size_t head, position_type position) {
        return static_cast<double>(shown.value(quantity::output, 0, head, 0, 0, position));
    };
    require_scores<ev::compose<queries, recent, ev::weighting::output_norms>>(
        [&](const world& shown, std::size_t head) {
            position_scores scores = aggregated(attention_planes(shown, head), how::mean);
            for (auto& [position, score] : scores)
                score = (score + 1e-4) * norm(shown, head, position);
            return scores;
        });
    require_scores<ev::compose<queries, recent, ev::weighting::output_norms_over_heads>>(
        [&](const world& shown, std::size_t head) {
            position_scores scores = aggregated(attention_planes(shown, head), how::mean);
            for (auto& [position, score] : scores) {
                double sum = 0;
                for (std::size_t other = 0; other < shown.options().kv_heads; ++other) {
                    const auto live = shown.live(0, other);
                    if (std::binary_search(live.begin(), live.end(), position))
                        sum += norm(shown, other, position);
                }
                score *= norm(shown, head, position) / sum;
            }
            return scores;
        });
}

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
