// SPDX-License-Identifier: Apache-2.0
//
// Decoding on after evictions: attention over every layout against a dense loop in double precision over the
// rows that were kept, at their true positions.
#include "layouts.hpp"

#include <vtensor/attention/reference.hpp>
#include <vtensor/backends/host.hpp>

#include <cmath>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr std::size_t group = 2; // query heads of one KV head

/// What the query at `position` of each query head gets from the plain rows, within `window` and the sinks.
std::vector<double> dense(const plain_layer& truth, const std::vector<float>& query, std::size_t width,
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

/// Prefill, then `tokens` single tokens, with an eviction to `share` and a defragmentation every 16 of them.
template <class Cache, class Policy>
void decode_on(const Policy& policy, double share, std::size_t tokens, attention::options options = {}) {
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
    for (std::size_t token = 0; token < tokens; ++token) {
        if (token % 16 == 0) {
            truth.evict(cache, share, kept);
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
        REQUIRE(attention::reference{}(attention::problem<float>{{&sequence, 1}, options},
                                       attention::inline_executor{}));
        const auto expected = dense(truth, query, width, position, options.window, options.sinks);
        double worst = 0;
        for (std::size_t index = 0; index < out.size(); ++index)
            worst = std::max(worst, std::abs(expected[index] - static_cast<double>(out[index])));
        REQUIRE(worst < 1e-5);
    }
    truth.require_same(cache);
}

template <class Cache>
void decode_on_in_all_ways() {
    decode_on<Cache>(defrag::compact{}, 0.6, 64);
    decode_on<Cache>(defrag::swap_with_last{}, 0.6, 64);
    decode_on<Cache>(defrag::none{}, 0.8, 64);
    decode_on<Cache>(defrag::incremental<1024>{}, 0.7, 64);
    decode_on<Cache>(defrag::compact{}, 0.9, 64, {.window = 40, .sinks = 4});
}

} // namespace

TEST_CASE("decoding on after evictions is attention over the rows that were kept, in every layout") {
    SECTION("per layer") { decode_on_in_all_ways<per_layer<float, host_backend>>(); }
    SECTION("per head") {
        decode_on_in_all_ways<per_head<float, host_backend>>();
        decode_on<per_head<float, host_backend>>(defrag::remap{}, 0.2, 64);
        decode_on<per_head<float, host_backend>>(defrag::hybrid{}, 0.6, 64);
    }
    SECTION("packed") { decode_on_in_all_ways<packed<float, host_backend>>(); }
}
