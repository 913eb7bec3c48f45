// SPDX-License-Identifier: Apache-2.0
// The parts of scores against double loops, on prompts and on ragged caches with dead rows in any order.
#include "compared.hpp"

namespace vtensor::testing {

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

} // namespace vtensor::testing
