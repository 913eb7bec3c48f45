// SPDX-License-Identifier: Apache-2.0
#include "attention_case.hpp"
#include "policies.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr double tolerance = 1e-5;

/// A batch of sequences of one kind, and what must be true of it after attention.
template <class Kind>
class batch {
  public:
    using stored = typename Kind::stored;
    using query = typename Kind::query;

    batch(const std::vector<sequence_shape>& shapes, const attention::options& options, random_engine& random)
        : options_{options} {
        for (const auto& shape : shapes)
            sequences_.push_back(std::make_unique<random_sequence<stored, query>>(shape, random));
        for (const auto& one : sequences_)
            described_.push_back(one->described());
    }

    template <class Executor = attention::inline_executor>
    status attend(Executor run = {}) {
        return typename Kind::policy{}(
            attention::problem<stored, query>{.sequences = described_, .options = options_}, run);
    }

    void check_truth() {
        REQUIRE(attend().ok());
        for (const auto& one : sequences_) {
            CAPTURE(one->shape().queries, one->shape().group, one->shape().rows, one->shape().key_width,
                    one->shape().value_width, one->shape().gaps, one->shape().dead_in_ten,
                    one->shape().scored.value_or(0));
            REQUIRE(one->output_error(options_) <= tolerance);
            REQUIRE(one->score_error(options_) <= tolerance);
            REQUIRE(one->score_sum_error(options_) <= tolerance);
            REQUIRE(one->wrote_only_rows());
        }
    }

    [[nodiscard]] std::vector<float> written() const {
        std::vector<float> all;
        for (const auto& one : sequences_) {
            const std::vector<float> part = one->written();
            all.insert(all.end(), part.begin(), part.end());
        }
        return all;
    }

    void forget() {
        for (const auto& one : sequences_)
            one->forget();
    }

  private:
    attention::options options_;
    std::vector<std::unique_ptr<random_sequence<stored, query>>> sequences_;
    std::vector<attention::sequence<stored, query>> described_;
};

} // namespace

TEMPLATE_LIST_TEST_CASE("probabilities of more rows than a cache holds are written like those of a few", "",
                        all_kinds) {
    random_engine random{7};
    for (std::size_t spare = 0; spare < 16; spare += 5) // several alignments of the rows of scores
        batch<TestType>{
            {{.group = 4, .rows = {40'003}, .scored = 1, .spare_score_columns = spare}}, {}, random}
            .check_truth();
}

TEMPLATE_LIST_TEST_CASE("attention over random ragged batches is what the definition says", "", all_kinds) {
    for (unsigned seed = 0; seed < 150; ++seed) {
        random_engine random{seed};
        const attention::options options = random_options(random);
        std::vector<sequence_shape> shapes(random_size(random, 0, 4));
        std::ranges::generate(shapes, [&] { return random_shape(random); });
        CAPTURE(seed, options.causal, options.window, options.sinks);
        batch<TestType>{shapes, options, random}.check_truth();
    }
}

TEMPLATE_LIST_TEST_CASE("decoding is right for every group of query heads and every width around a vector",
                        "", all_kinds) {
    random_engine random{7};
    for (std::size_t group = 1; group <= 17; ++group)
        for (const std::size_t width : {1u, 3u, 15u, 16u, 17u, 64u, 80u, 127u, 128u, 129u, 300u}) {
            CAPTURE(group, width);
            batch<TestType>{{{.group = group,
                              .rows = {70, 1},
                              .key_width = width,
                              .value_width = width,
                              .scored = group % 2}},
                            {},
                            random}
                .check_truth();
        }
}

TEMPLATE_LIST_TEST_CASE("very wide heads are right", "", all_kinds) {
    random_engine random{8};
    for (const std::size_t queries : {1u, 20u})
        batch<TestType>{{{.queries = queries,
                          .group = 3,
                          .rows = {40},
                          .key_width = 1500,
                          .value_width = 1100,
                          .scored = 1}},
                        {},
                        random}
            .check_truth();
}

TEMPLATE_LIST_TEST_CASE("keys beyond the scratch of one pass are right", "", all_kinds) {
    random_engine random{12};
    batch<TestType>{{{.group = 2, .rows = {5}, .key_width = 8200, .value_width = 3, .scored = 1},
                     {.group = 40, .rows = {50}, .key_width = 1000, .value_width = 20, .scored = 1}},
                    {},
                    random}
        .check_truth();
}

TEMPLATE_LIST_TEST_CASE("long rows are right with and without scores", "", all_kinds) {
    random_engine random{9};
    for (const std::size_t queries : {1u, 2u, 70u})
        for (const bool scored : {false, true})
            batch<TestType>{
                {{.queries = queries,
                  .group = 4,
                  .rows = {1500, 1499},
                  .key_width = 32,
                  .value_width = 32,
                  .scored = scored ? std::optional{std::min<std::size_t>(queries, 32)} : std::nullopt}},
                {},
                random}
                .check_truth();
}

TEMPLATE_LIST_TEST_CASE("a window keeps the sinks and the last positions, across every block border", "",
                        all_kinds) {
    random_engine random{10};
    for (const std::size_t window : {1u, 2u, 31u, 32u, 33u, 63u, 64u, 65u, 200u})
        for (const std::size_t sinks : {0u, 1u, 4u, 40u}) {
            CAPTURE(window, sinks);
            batch<TestType>{{{.queries = 50, .group = 2, .rows = {180}, .scored = 3},
                             {.queries = 1, .group = 2, .rows = {180, 140}, .scored = 1},
                             {.queries = 30, .rows = {90}, .first_position = 200, .gaps = true}},
                            {.window = window, .sinks = sinks},
                            random}
                .check_truth();
        }
}

TEMPLATE_LIST_TEST_CASE("no query sees an evicted row, whatever the options say", "", all_kinds) {
    // What the rows hold is no number, so that reading one of them would show.
    random_engine random{37};
    for (const std::size_t dead_in_ten : {1u, 5u, 8u, 10u})
        for (const bool causal : {true, false})
            for (const std::size_t window : {std::size_t{40}, attention::no_window}) {
                CAPTURE(dead_in_ten, causal, window);
                const sequence_shape few{.queries = 2,
                                         .group = 3,
                                         .rows = {150, 90, 0, 33},
                                         .key_width = 21,
                                         .value_width = 37,
                                         .first_position = 148,
                                         .dead_in_ten = dead_in_ten,
                                         .scored = 2};
                sequence_shape many = few;
                many.queries = 30;
                many.first_position = 120;
                many.gaps = true;
                many.scored = 3;
                sequence_shape wide = few; // more than can be copied together, a few rows of it or all
                wide.rows = {40};
                wide.first_position = 38;
                wide.key_width = 500;
                wide.value_width = dead_in_ten == 5 ? 17000 : 600;
                batch<TestType>{{few, many, wide}, {.causal = causal, .window = window, .sinks = 2}, random}
                    .check_truth();
            }
}

TEMPLATE_LIST_TEST_CASE("one row holds all the probability when its key outweighs the others", "",
                        all_kinds) {
    // Products of ±40,000 and probabilities that underflow: nothing may become infinite or NaN.
    using stored = typename TestType::stored;
    using query = typename TestType::query;
    const std::vector<query> queries(16, from_float<query>(50.0f));
    std::vector<stored> keys(100 * 16, from_float<stored>(-50.0f));
    std::vector<stored> values(100 * 16, from_float<stored>(-1.0f));
    std::fill_n(keys.begin() + 37 * 16, 16, from_float<stored>(50.0f));
    std::fill_n(values.begin() + 37 * 16, 16, from_float<stored>(3.0f));
    std::vector<float> output(16);
    std::vector<float> scores(100);
    const attention::kv_head<stored> head{
        .keys = keys.data(), .values = values.data(), .key_stride = 16, .value_stride = 16, .rows = 100};
    const attention::sequence<stored, query> one{.queries = make_view(queries.data(), 1, 1, 16),
                                                 .heads = {&head, 1},
                                                 .output = make_view(output.data(), 1, 1, 16),
                                                 .scores = make_view(scores.data(), 1, 1, 100)};
    const attention::problem<stored, query> asked{.sequences = {&one, 1}, .options = {.scale = 1.0f}};
    REQUIRE(typename TestType::policy{}(asked, attention::inline_executor{}).ok());
    CHECK(std::ranges::all_of(output, [](float element) { return element == 3.0f; }));
    for (std::size_t row = 0; row < 100; ++row)
        REQUIRE(scores[row] == (row == 37 ? 1.0f : 0.0f));
}

TEMPLATE_LIST_TEST_CASE("the order and the threads of the tasks do not change one bit", "", all_kinds) {
    random_engine random{11};
    std::vector<sequence_shape> shapes(6);
    std::ranges::generate(shapes, [&] { return random_shape(random); });
    shapes.push_back({.queries = 150, .group = 4, .rows = {900, 800}, .scored = 32});
    shapes.push_back({.queries = 1, .group = 4, .rows = {9000, 5000}, .scored = 1});
    batch<TestType> several{shapes, {}, random};
    REQUIRE(several.attend().ok());
    const std::vector<float> expected = several.written();

    const auto same_bits = [&] {
        const std::vector<float> got = several.written();
        return std::equal(expected.begin(), expected.end(), got.begin(), got.end(),
                          [](float one, float other) {
                              return std::bit_cast<std::uint32_t>(one) == std::bit_cast<std::uint32_t>(other);
                          });
    };
    several.forget();
    REQUIRE_FALSE(same_bits());
    const auto backwards = [](std::size_t tasks, auto&& task) {
        while (tasks-- > 0)
            task(tasks);
    };
    REQUIRE(several.attend(backwards).ok());
    CHECK(same_bits());

    several.forget();
    const auto on_two_threads = [](std::size_t tasks, auto&& task) {
        std::atomic<std::size_t> next{0};
        const auto work = [&] {
            for (std::size_t index = next++; index < tasks; index = next++)
                task(index);
        };
        std::thread other{work};
        work();
        other.join();
    };
    REQUIRE(several.attend(on_two_threads).ok());
    CHECK(same_bits());
}
