// SPDX-License-Identifier: Apache-2.0
#include "decode_on.hpp"

using namespace vtensor;
using namespace vtensor::testing;

namespace {

template <class Cache>
void decode_on_in_all_ways() {
    decode_on<Cache>(defrag::compact{}, at_random{0.6});
    decode_on<Cache>(defrag::swap_with_last{}, at_random{0.6});
    decode_on<Cache>(defrag::none{}, at_random{0.8});
    decode_on<Cache>(defrag::incremental<1024>{}, at_random{0.7});
    decode_on<Cache>(defrag::compact{}, at_random{0.9}, {.options = {.window = 40, .sinks = 4}});
}

} // namespace

TEST_CASE("decoding on after evictions is attention over the rows that were kept, in every layout") {
    SECTION("per layer") { decode_on_in_all_ways<per_layer<float, host_backend>>(); }
    SECTION("per head") {
        decode_on_in_all_ways<per_head<float, host_backend>>();
        decode_on<per_head<float, host_backend>>(defrag::remap{}, at_random{0.2});
        decode_on<per_head<float, host_backend>>(defrag::hybrid{}, at_random{0.6});
    }
    SECTION("packed") { decode_on_in_all_ways<packed<float, host_backend>>(); }
}
