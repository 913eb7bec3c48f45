// SPDX-License-Identifier: Apache-2.0
#include "all_methods.hpp"

#include <vtensor/policy/eviction/methods.hpp>

namespace vtensor::testing {

namespace {

using namespace eviction;

template <class Policy>
Policy configured(const method_settings& settings) {
    Policy policy;
    policy.set_amount(amount::of_tokens(settings.tokens));
    policy.set_window(settings.window);
    policy.set_sinks(settings.sinks);
    return policy;
}

template <class Policy>
named_method named(const char* name, shared_among sharing, bool guards_only = false) {
    return {
        .name = name,
        .sharing = sharing,
        .guards_only = guards_only,
        .needs = [] { return Policy{}.needs(); },
        .window = [](const method_settings& chosen) { return configured<Policy>(chosen).window(); },
        .sinks =
            [](const method_settings& chosen) {
                std::size_t count = 0;
                configured<Policy>(chosen).for_each_part([&](const auto& one) {
                    if constexpr (requires { one.sink_positions(); })
                        count = one.sink_positions();
                });
                return count;
            },
        .choose = [](const method_settings& chosen, std::span<const layer_evidence> layers, workspace& memory,
                     kept_rows& kept) { return configured<Policy>(chosen).choose(layers, memory, kept); }};
}

} // namespace

const std::vector<named_method>& all_methods() {
    static const std::vector<named_method> all{
        named<sliding_window<>>("sliding_window", shared_among::head, true),
        named<h2o<>>("h2o", shared_among::head),
        named<observed>("observed", shared_among::head),
        named<snapkv<>>("snapkv", shared_among::head),
        named<ada<snapkv<>>>("ada<snapkv>", shared_among::layer),
        named<tova>("tova", shared_among::head),
        named<knorm>("knorm", shared_among::head),
        named<keydiff>("keydiff", shared_among::head),
        named<critical<snapkv<>>>("critical<snapkv>", shared_among::head),
        named<ada<critical<snapkv<>>>>("ada<critical<snapkv>>", shared_among::layer),
        named<defensive_kv<>>("defensive_kv", shared_among::layer),
        named<layer_defensive_kv<>>("layer_defensive_kv", shared_among::model),
        named<window_kv<>>("window_kv", shared_among::windows),
        named<window_kv_best<>>("window_kv_best", shared_among::windows),
        named<lazy<>>("lazy", shared_among::head),
    };
    return all;
}

} // namespace vtensor::testing
