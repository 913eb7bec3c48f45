// SPDX-License-Identifier: Apache-2.0
//
// Every named method of eviction, and windows that slide for ten times their length.
#include "decode_on.hpp"

using namespace vtensor;
using namespace vtensor::testing;

namespace {

using cache = packed<float, host_backend>;

template <class Policy>
void evict_by(std::size_t rows_or_share = 0) {
    by_policy<Policy> choose;
    if (rows_or_share != 0)
        choose.policy.set_amount(eviction::amount::of_tokens(rows_or_share));
    decode_on<cache>(defrag::compact{}, choose);
}

template <class Layout>
void slide(const auto& policy) {
    using window = eviction::sliding_window<4, 48>;
    decode_on<Layout>(policy, by_policy<window>{}, {.tokens = 480, .every = 1});
    decode_on<Layout>(policy, by_policy<window>{},
                      {.tokens = 480, .every = 1, .options = {.window = 48, .sinks = 4}});
}

} // namespace

TEST_CASE("64 tokens are decoded on after repeated evictions by every method") {
    evict_by<eviction::h2o<80>>();
    evict_by<eviction::observed>();
    evict_by<eviction::snapkv<>>();
    evict_by<eviction::pyramid_snapkv<>>();
    evict_by<eviction::ada<eviction::snapkv<>>>();
    evict_by<eviction::tova>();
    evict_by<eviction::knorm>();
    evict_by<eviction::keydiff>();
    evict_by<eviction::critical<eviction::snapkv<>>>();
    evict_by<eviction::defensive_kv<>>();
    evict_by<eviction::layer_defensive_kv<>>(60);
    evict_by<eviction::window_kv<>>();
    evict_by<eviction::window_kv_best<>>();
    evict_by<eviction::lazy<80, 16>>();
}

TEST_CASE("a sliding window runs for ten times its length") {
    slide<per_head<float, host_backend>>(defrag::remap{});
    slide<per_head<float, host_backend>>(defrag::compact{});
    slide<per_layer<float, host_backend>>(defrag::swap_with_last{});
    slide<packed<float, host_backend>>(defrag::compact{});
}
