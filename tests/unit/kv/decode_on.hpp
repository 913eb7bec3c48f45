// SPDX-License-Identifier: Apache-2.0
//
// Decoding on after evictions: attention over a layer against a dense loop in double precision over the rows
// that were kept, at their true positions.
#pragma once

#include "layouts.hpp"

#include <vtensor/attention/host.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/policy/eviction/methods.hpp>

#include <cmath>
#include <utility>

namespace vtensor::testing {

inline constexpr std::size_t group = 2; // query heads of one KV head

/// What the query at `position` of each query head gets from the plain rows, within `window` and the sinks.
inline std::vector<double> dense(const plain_layer& truth, const std::vector<float>& query, std::size_t width,
                                 position_type position, std::size_t window, std::size_t sinks) {
    std::vector<double> out(query.size());
    for (std::size_t query_head = 0; query_head < truth.heads.size() * group; ++query_head) {
        const auto& rows = truth.heads[query_head / group];
        std::vector<double> weights;
        double largest = -HUGE_VAL;
        for (const plain_row& row : rows) {
            const bool seen = row.position < sinks || position - row.position < window;
            double logit = -HUGE_VAL;
            if (seen) {
                logit = 0;
                for (std::size_t column = 0; column < width; ++column)
                    logit += static_cast<double>(query[query_head * width + column]) *
                             static_cast<double>(row.key[column]);
                logit /= std::sqrt(static_cast<double>(width));
            }
            weights.push_back(logit);
            largest = std::max(largest, logit);
        }
        double total = 0;
        for (double& weight : weights)
            total += weight = std::exp(weight - largest);
        for (std::size_t index = 0; index < rows.size(); ++index)
            for (std::size_t column = 0; column < width; ++column)
                out[query_head * width + column] +=
                    weights[index] / total * static_cast<double>(rows[index].value[column]);
    }
    return out;
}

/// Evidence that no attention gave: any numbers must do, and what is kept is checked against a plain copy.
struct made_up_evidence {
    explicit made_up_evidence(std::size_t kv_heads, std::size_t rows, std::mt19937& random) {
        const std::size_t query_heads = kv_heads * group;
        std::exponential_distribution<float> positive;
        const auto fill = [&](std::vector<float>& values, std::size_t count) {
            values.resize(count);
            for (float& one : values)
                one = positive(random);
        };
        fill(probabilities, query_heads * queries * rows);
        fill(sums, query_heads * rows);
        fill(norms, kv_heads * rows);
        shown = {.heads = {},
                 .probabilities = make_view(std::as_const(probabilities).data(), query_heads, queries, rows),
                 .accumulated = make_view(std::as_const(sums).data(), query_heads, rows),
                 .key_norms = make_view(std::as_const(norms).data(), kv_heads, rows),
                 .key_similarity = make_view(std::as_const(norms).data(), kv_heads, rows),
                 .output_norms = make_view(std::as_const(norms).data(), kv_heads, rows),
                 .recurrence = make_view(std::as_const(norms).data(), kv_heads, rows)};
    }

    static constexpr std::size_t queries = 32;
    std::vector<float> probabilities;
    std::vector<float> sums;
    std::vector<float> norms;
    eviction::layer_evidence shown{};
};

/// Keeps a random share of the rows.
struct at_random {
    double share = 0.5;

    template <class Cache>
    void operator()(const Cache& cache, plain_layer& truth, eviction::kept_rows& kept) {
        truth.evict(cache, share, kept);
    }
};

/// Keeps what a policy chooses from made-up evidence.
template <class Policy>
struct by_policy {
    Policy policy{};
    eviction::workspace room{};

    template <class Cache>
    void operator()(const Cache& cache, plain_layer& truth, eviction::kept_rows& kept) {
        std::vector<eviction::head_rows> heads;
        std::size_t longest = 0;
        for (std::size_t head = 0; head < truth.heads.size(); ++head) {
            const auto positions = cache.positions(head);
            heads.push_back({cache.rows(head), positions.empty() ? nullptr : positions.data()});
            longest = std::max(longest, cache.rows(head));
        }
        made_up_evidence evidence{heads.size(), longest, truth.random};
        evidence.shown.heads = heads;
        evidence.shown.next_position = cache.next_position();
        REQUIRE(policy.choose({&evidence.shown, 1}, room, kept));
        truth.keep_only(cache, kept);
    }
};

/// How a run goes.
struct decoding {
    std::size_t tokens = 64;
    std::size_t every = 16; ///< tokens from one eviction to the next
    attention::options options{};
};

/// A prompt of 150 tokens, then single ones with evictions and defragmentations in between.
template <class Cache, class Defrag, class Choose>
void decode_on(const Defrag& policy, Choose choose, const decoding& how = {}) {
    host_backend memory;
    layer_pool<host_backend> pool{memory};
    const std::size_t width = 16;
    const kv::layer_shape shape{.kv_heads = 3, .key_width = width, .value_width = width, .max_rows = 600};
    auto cache = Cache::try_create(pool, shape).value();
    plain_layer truth{shape};
    eviction::kept_rows kept;
    std::vector<defrag::plan> plans(shape.kv_heads);
    std::vector<attention::kv_head<float>> heads(shape.kv_heads);
    std::vector<float> query(shape.kv_heads * group * width);
    std::vector<float> out(query.size());
    std::normal_distribution<float> normal;

    REQUIRE(cache.try_append(150));
    truth.append(cache, 150);
    for (std::size_t token = 0; token < how.tokens; ++token) {
        if (token % how.every == 0) {
            choose(cache, truth, kept);
            REQUIRE(cache.try_evict(kept, 0));
            REQUIRE(cache.try_defragment(policy, plans));
        }
        REQUIRE(cache.try_append(1));
        truth.append(cache, 1);
        for (float& one : query)
            one = normal(truth.random);
        REQUIRE(cache.describe(heads));
        const position_type position = cache.next_position() - 1;
        const attention::sequence<float> sequence{
            .queries = make_view(std::as_const(query).data(), std::size_t{1}, shape.kv_heads * group, width),
            .heads = heads,
            .output = make_view(out.data(), std::size_t{1}, shape.kv_heads * group, width),
            .first_position = position};
        REQUIRE(attention::host{}(attention::problem<float>{{&sequence, 1}, how.options},
                                  attention::inline_executor{}));
        const auto expected = dense(truth, query, width, position, how.options.window, how.options.sinks);
        double worst = 0;
        for (std::size_t index = 0; index < out.size(); ++index)
            worst = std::max(worst, std::abs(expected[index] - static_cast<double>(out[index])));
        REQUIRE(worst < 1e-5);
    }
    truth.require_same(cache);
}

} // namespace vtensor::testing
