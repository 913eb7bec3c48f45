// SPDX-License-Identifier: Apache-2.0
#include "evidence_case.hpp"
#include "support/catch.hpp"

#include <vtensor/attention/evidence.hpp>

#include <array>
#include <string>
#include <thread>
#include <utility>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr double tolerance = 3e-6;
const std::vector<std::size_t> ragged{37, 300, 0, 5, 1, 64};
constexpr attention::inline_executor inline_run;

template <class T, class W>
double true_output_norm(const random_heads<T>& heads, const tensor_view<const W, 3>& weights,
                        std::size_t head, std::size_t row) {
    if (!heads.is_live(head, row))
        return 0;
    const std::size_t group = weights.extents[0] / heads.described().size();
    double norm = 0;
    for (std::size_t g = head * group; g < (head + 1) * group; ++g)
        for (std::size_t output = 0; output < weights.extents[2]; ++output) {
            double sum = 0;
            for (std::size_t column = 0; column < weights.extents[1]; ++column)
                sum +=
                    heads.at(head, row, column) * static_cast<double>(to_float(weights(g, column, output)));
            norm += std::abs(sum);
        }
    return norm / static_cast<double>(group);
}

template <class T, class W>
void check_output_norms(const std::vector<std::size_t>& rows, std::size_t width, std::size_t group,
                        std::size_t hidden, random_engine& random) {
    const random_heads<T> heads{rows, width, 3, random};
    for (const auto order :
         {projection<W>::rows_of_hidden, projection<W>::checkpoint, projection<W>::spread}) {
        CAPTURE(width, group, hidden, static_cast<int>(order));
        const projection<W> weights{group * rows.size(), width, hidden, order, random};
        const written_rows norms{rows.size(), heads.longest() + 2};
        REQUIRE(attention::output_norms<T>(heads.described(), weights.view, norms.view(), inline_run).ok());
        REQUIRE(norms.error([&](std::size_t head, std::size_t row) {
            return true_output_norm(heads, weights.view, head, row);
        }) <= tolerance);
        REQUIRE(norms.gaps_intact());
    }
}

/// The other two kinds of elements for the projection, so that every kind is met.
template <class T>
using weight_for = std::conditional_t<std::is_same_v<T, float>, float,
                                      std::conditional_t<std::is_same_v<T, float16>, bfloat16, float16>>;

constexpr auto backwards = [](std::size_t tasks, auto&& task) {
    while (tasks-- > 0)
        task(tasks);
};
constexpr auto on_two_threads = [](std::size_t tasks, auto&& task) {
    std::thread other{[&] {
        for (std::size_t index = 0; index < tasks; index += 2)
            task(index);
    }};
    for (std::size_t index = 1; index < tasks; index += 2)
        task(index);
    other.join();
};

} // namespace

TEMPLATE_TEST_CASE("norms of keys agree with a loop", "", float, float16, bfloat16) {
    random_engine random{1};
    for (const std::size_t width : {1u, 7u, 16u, 64u, 100u, 131u}) {
        CAPTURE(width);
        const random_heads<TestType> heads{ragged, width, 4, random};
        const written_rows norms{ragged.size(), 302};
        REQUIRE(attention::key_norms<TestType>(heads.described(), width, norms.view(), inline_run).ok());
        CHECK(norms.error([&](std::size_t head, std::size_t row) {
            return heads.is_live(head, row) ? heads.length(head, row) : 0;
        }) <= tolerance);
        CHECK(norms.gaps_intact());
    }
}

TEMPLATE_TEST_CASE("the likeness of keys to their mean agrees with a loop", "", float, float16, bfloat16) {
    random_engine random{2};
    for (const std::size_t width : {1u, 7u, 64u, 131u, 2500u}) {
        CAPTURE(width);
        const random_heads<TestType> heads{ragged, width, 4, random};
        const written_rows similarity{ragged.size(), 300};
        REQUIRE(attention::key_similarity<TestType>(heads.described(), width, similarity.view(), inline_run)
                    .ok());
        std::vector<std::vector<double>> sums(ragged.size(), std::vector<double>(width));
        std::vector<double> lengths(ragged.size());
        for (std::size_t head = 0; head < ragged.size(); ++head) {
            for (std::size_t row = 0; row < ragged[head]; ++row) {
                const double length = heads.length(head, row);
                for (std::size_t column = 0; heads.is_live(head, row) && column < width; ++column)
                    sums[head][column] += heads.at(head, row, column) / length;
            }
            for (const double sum : sums[head])
                lengths[head] += sum * sum;
        }
        CHECK(similarity.error([&](std::size_t head, std::size_t row) {
            double product = 0;
            if (!heads.is_live(head, row))
                return product;
            for (std::size_t column = 0; column < width; ++column)
                product += sums[head][column] * heads.at(head, row, column);
            return product / heads.length(head, row) / std::sqrt(lengths[head]);
        }) <= tolerance);
        CHECK(similarity.gaps_intact());
    }
}

TEST_CASE("a key of zeros has no likeness, nor has any key where the directions cancel") {
    const std::array<float, 6> keys{0, 0, 3, 4, 3, 4};
    const std::array<float, 4> opposite{1, 2, -1, -2};
    const std::array heads{attention::kv_head<float>{.keys = keys.data(), .key_stride = 2, .rows = 3},
                           attention::kv_head<float>{.keys = opposite.data(), .key_stride = 2, .rows = 2}};
    std::array<float, 6> similarity{9, 9, 9, 9, 9, 9};
    REQUIRE(attention::key_similarity<float>(heads, 2, make_view(similarity.data(), 2, 3), inline_run).ok());
    CHECK(similarity[0] == 0.0f);
    CHECK(similarity[1] == Catch::Approx(1));
    CHECK(similarity[3] == 0.0f);
    CHECK(similarity[4] == 0.0f);
}

TEMPLATE_TEST_CASE("norms of what values contribute agree with a loop", "", float, float16, bfloat16) {
    random_engine random{3};
    using weight = weight_for<TestType>;
    check_output_norms<TestType, weight>(ragged, 20, 3, 11, random);
    check_output_norms<TestType, weight>({5, 70}, 1, 1, 1, random);
    check_output_norms<TestType, weight>({200, 9}, 128, 1, 70, random);
    check_output_norms<TestType, weight>({3, 66}, 131, 2, 50, random);
    check_output_norms<TestType, weight>({70}, 384, 1, 20, random);
    check_output_norms<TestType, weight>({3, 4}, 769, 2, 3, random); // beyond the scratch of the vectors
}

TEST_CASE("probabilities of a block of queries are added to the sums") {
    random_engine random{4};
    for (const std::size_t rows : {0u, 1u, 15u, 64u, 107u, 9000u})
        for (const std::size_t queries : {0u, 1u, 7u}) {
            CAPTURE(rows, queries);
            constexpr std::size_t heads = 3;
            std::vector<float> memory(heads * queries * (rows + 1));
            std::ranges::generate(memory,
                                  [&] { return 0.01f * static_cast<float>(random_size(random, 0, 99)); });
            auto probabilities = make_view(memory.data(), heads, queries, rows);
            probabilities.strides[1] = static_cast<std::ptrdiff_t>(rows + 1);
            probabilities.strides[0] = probabilities.strides[1] * static_cast<std::ptrdiff_t>(queries);
            const written_rows sums{heads, rows + 4};
            std::vector<double> expected(heads * (rows + 4));
            for (std::size_t head = 0; head < heads; ++head)
                for (std::size_t row = 0; row < rows + 4; ++row) {
                    expected[head * (rows + 4) + row] = static_cast<double>(sums.view()(head, row) = 5.0f);
                    for (std::size_t query = 0; row < rows && query < queries; ++query)
                        expected[head * (rows + 4) + row] +=
                            2 * static_cast<double>(probabilities(head, query, row));
                }
            REQUIRE(attention::accumulate(probabilities, sums.view(), inline_run).ok());
            REQUIRE(attention::accumulate(probabilities, sums.view(), inline_run).ok());
            CHECK(sums.error([&](std::size_t head, std::size_t row) {
                return expected[head * (rows + 4) + row];
            }) <= tolerance);
            CHECK(sums.gaps_intact());
        }
}

TEST_CASE("evidence about evicted rows only, or about none, is zero") {
    random_engine random{5};
    const auto all_zero = [](const written_rows& rows) {
        return rows.error([](std::size_t, std::size_t) { return 0.0; }) == 0;
    };
    const random_heads<float16> dead{{0, 90}, 24, 10, random};
    const projection<float> weights{4, 24, 9, projection<float>::checkpoint, random};
    const written_rows norms{2, 90}, similarity{2, 90}, outputs{2, 90};
    REQUIRE(attention::key_norms<float16>(dead.described(), 24, norms.view(), inline_run).ok());
    REQUIRE(attention::key_similarity<float16>(dead.described(), 24, similarity.view(), inline_run).ok());
    REQUIRE(
        attention::output_norms<float16>(dead.described(), weights.view, outputs.view(), inline_run).ok());
    CHECK((all_zero(norms) && all_zero(similarity) && all_zero(outputs)));

    const tensor_view<float, 2> nothing{};
    const tensor_view<const float, 3> no_weights{};
    REQUIRE(attention::key_norms<float16>({}, 24, nothing, inline_run).ok());
    REQUIRE(attention::key_similarity<float16>({}, 24, nothing, inline_run).ok());
    REQUIRE(attention::output_norms<float16>({}, no_weights, nothing, inline_run).ok());
    REQUIRE(attention::accumulate(no_weights, nothing, inline_run).ok());
}

TEST_CASE("the order and the threads of the tasks do not change one bit of evidence") {
    random_engine random{6};
    const random_heads<bfloat16> heads{{700, 450, 1500}, 72, 3, random};
    const projection<float16> weights{6, 72, 33, projection<float16>::rows_of_hidden, random};
    const std::vector<float> probabilities(6 * 2 * 9000, 0.1f);
    const auto written_by = [&](auto&& run) {
        const written_rows norms{3, 1500}, similarity{3, 1500}, outputs{3, 1500}, sums{6, 9000};
        REQUIRE(attention::key_norms<bfloat16>(heads.described(), 72, norms.view(), run).ok());
        REQUIRE(attention::key_similarity<bfloat16>(heads.described(), 72, similarity.view(), run).ok());
        REQUIRE(attention::output_norms<bfloat16>(heads.described(), weights.view, outputs.view(), run).ok());
        REQUIRE(attention::accumulate(make_view(probabilities.data(), 6, 2, 9000), sums.view(), run).ok());
        std::vector<float> all;
        for (const written_rows* rows : {&norms, &similarity, &outputs, &sums})
            all.insert(all.end(), rows->memory().begin(), rows->memory().end());
        return all;
    };
    const std::vector<float> expected = written_by(inline_run);
    CHECK(written_by(backwards) == expected); // no float here is NaN or −0
    CHECK(written_by(on_two_threads) == expected);
}
