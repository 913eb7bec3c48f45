// SPDX-License-Identifier: Apache-2.0
//
// Attention as the textbook writes it: for every query the products with the keys it sees, their softmax, and
// the sum of the values weighted by it. It is the reference that faster policies are read beside, and the
// fallback where they do not compile. No vector instructions, no blocks, no scratch memory.
#pragma once

#include <vtensor/attention/detail/dispatch.hpp>
#include <vtensor/attention/detail/visibility.hpp>
#include <vtensor/attention/executor.hpp>
#include <vtensor/attention/problem.hpp>
#include <vtensor/core/concepts.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

namespace vtensor::attention {

namespace detail {

/// One query of one query head: everything that its softmax depends on.
template <class T, class Query>
struct single_query {
    const Query* query = nullptr;
    float* output = nullptr;
    std::size_t key_width = 0;
    std::size_t value_width = 0;
    kv_head<T> head;
    std::int64_t position = 0;
    double scale = 0;
    visibility mask;

    /// The scaled product of the query with the key of `row`; double, so that what other policies differ by
    /// is theirs.
    [[nodiscard]] double logit(std::size_t row) const noexcept {
        const T* key = head.keys + static_cast<std::ptrdiff_t>(row) * head.key_stride;
        double sum = 0;
        for (std::size_t column = 0; column < key_width; ++column)
            sum += static_cast<double>(to_float(query[column])) * static_cast<double>(to_float(key[column]));
        return sum * scale;
    }

    [[nodiscard]] bool sees(std::size_t row) const noexcept {
        return mask.sees(position, position_of(head, row));
    }

    /// Writes the output, and the probabilities of all rows where `scores` is not empty.
    void attend(std::span<float> scores) const noexcept {
        std::fill_n(output, value_width, 0.0f);
        std::ranges::fill(scores, 0.0f);

        double largest = -std::numeric_limits<double>::infinity();
        for (std::size_t row = 0; row < head.rows; ++row)
            if (sees(row))
                largest = std::max(largest, logit(row));

        double total = 0;
        for (std::size_t row = 0; row < head.rows; ++row) {
            if (!sees(row))
                continue;
            const double weight = std::exp(logit(row) - largest);
            total += weight;
            const T* value = head.values + static_cast<std::ptrdiff_t>(row) * head.value_stride;
            for (std::size_t column = 0; column < value_width; ++column)
                output[column] += static_cast<float>(weight) * to_float(value[column]);
            if (!scores.empty())
                scores[row] = static_cast<float>(weight);
        }
        if (total == 0)
            return; // no visible row: the zeros stand
        const auto normaliser = static_cast<float>(1.0 / total);
        std::for_each(output, output + value_width, [=](float& sum) { sum *= normaliser; });
        std::ranges::for_each(scores, [=](float& weight) { weight *= normaliser; });
    }
};

/// One query of one query head of a sequence.
template <class T, class Query>
void attend_query(const sequence<T, Query>& one, const options& chosen, std::size_t query_head,
                  std::size_t query) noexcept {
    const std::size_t queries = one.queries.extents[0];
    const std::size_t group = one.queries.extents[1] / one.heads.size();
    const std::size_t first_scored = one.scores.data == nullptr ? queries : queries - one.scores.extents[1];
    const single_query<T, Query> single{
        .query = &one.queries(query, query_head, 0),
        .output = &one.output(query, query_head, 0),
        .key_width = one.queries.extents[2],
        .value_width = one.output.extents[2],
        .head = one.heads[query_head / group],
        .position = first_query_position(one) + static_cast<std::int64_t>(query),
        .scale = static_cast<double>(scale_of(chosen, one.queries.extents[2])),
        .mask = visibility{chosen}};
    std::span<float> scores;
    if (query >= first_scored && one.scores.extents[2] != 0)
        scores = {&one.scores(query_head, query - first_scored, 0), one.scores.extents[2]};
    single.attend(scores);
}

} // namespace detail

/// The scalar policy. One task a query head of a sequence; tasks write disjoint outputs, so that any executor
/// gives the same bits. O(queries × rows × width), each product computed twice; allocates nothing.
struct reference {
    /// Computes `asked`, its tasks run by `run`. Errors: `invalid_argument` for a malformed problem, nothing
    /// written. May be called from any thread; outputs must not overlap those of a call that runs at the same
    /// time.
    template <attention_element T, attention_element Query, class Executor>
    requires task_executor<Executor> status operator()(const problem<T, Query>& asked, Executor&& run) const {
        return detail::dispatch(
            asked, run,
            [](const auto& one) { return one.queries.extents[0] == 0 ? 0 : one.queries.extents[1]; },
            [](const auto& one, const options& chosen, std::size_t query_head) {
                for (std::size_t query = 0; query < one.queries.extents[0]; ++query)
                    detail::attend_query(one, chosen, query_head, query);
            });
    }
};

static_assert(attention_policy<reference, problem<float>, inline_executor>);
static_assert(attention_policy<reference, problem<float16>, inline_executor>);
static_assert(attention_policy<reference, problem<bfloat16>, inline_executor>);
static_assert(attention_policy<reference, problem<bfloat16, bfloat16>, inline_executor>);

} // namespace vtensor::attention
