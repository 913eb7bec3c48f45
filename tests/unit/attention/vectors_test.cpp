// SPDX-License-Identifier: Apache-2.0
#include "policies.hpp"
#include "support/catch.hpp"
#include "support/safetensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

template <class T>
std::vector<T> stored_as(const std::vector<float>& values) {
    std::vector<T> stored(values.size());
    std::ranges::transform(values, stored.begin(), [](float value) { return from_float<T>(value); });
    return stored;
}

/// [a, b, c] in memory seen as [b, a, c].
template <class T>
tensor_view<T, 3> swap_first_two(tensor_view<T, 3> view) {
    std::swap(view.extents[0], view.extents[1]);
    std::swap(view.strides[0], view.strides[1]);
    return view;
}

/// One layer of a vector file through a policy: the largest error as a share of the largest output.
template <class Kind>
double error_on(const safetensors_file& file, std::size_t layer) {
    using stored = typename Kind::stored;
    using query = typename Kind::query;
    const auto shape = file.shape("q");
    const auto kv_heads = file.shape("k")[1];
    const auto part = [&](const char* name, std::size_t heads) {
        const std::size_t size = heads * shape[2] * shape[3];
        const auto all = file.floats(name);
        return std::vector<float>(all.begin() + static_cast<std::ptrdiff_t>(layer * size),
                                  all.begin() + static_cast<std::ptrdiff_t>((layer + 1) * size));
    };
    const auto queries = stored_as<query>(part("q", shape[1]));
    const auto keys = stored_as<stored>(part("k", kv_heads));
    const auto values = stored_as<stored>(part("v", kv_heads));
    const auto expected = file.floats("attention.out." + std::to_string(layer));
    std::vector<float> output(expected.size());

    const auto by_token = [&](auto* data, std::size_t heads) {
        return swap_first_two(make_view(data, heads, shape[2], shape[3]));
    };
    std::vector<attention::kv_head<stored>> heads(kv_heads);
    REQUIRE(attention::describe_heads<stored>(heads, by_token(keys.data(), kv_heads),
                                              by_token(values.data(), kv_heads))
                .ok());
    const attention::sequence<stored, query> one{.queries = by_token(queries.data(), shape[1]),
                                                 .heads = heads,
                                                 .output = by_token(output.data(), shape[1])};
    const attention::problem<stored, query> asked{.sequences = {&one, 1}};
    REQUIRE(typename Kind::policy{}(asked, attention::inline_executor{}).ok());

    float worst = 0;
    float largest = 0;
    for (std::size_t index = 0; index < expected.size(); ++index) {
        const float error = std::abs(output[index] - expected[index]);
        worst = error <= worst ? worst : error; // a NaN stays
        largest = std::max(largest, std::abs(expected[index]));
    }
    return static_cast<double>(worst / largest);
}

template <class T>
constexpr double allowed_error = 1e-5;
template <>
constexpr double allowed_error<float16> = 2e-3;
template <>
constexpr double allowed_error<bfloat16> = 1e-2;

} // namespace

TEMPLATE_LIST_TEST_CASE("causal attention over random layers agrees with PyTorch", "", all_kinds) {
    for (const std::string name : {"mha-s2", "gqa-s1", "long-s1"}) {
        const safetensors_file file{std::string{VTENSOR_TEST_VECTORS} + "/attention/" + name +
                                    ".safetensors"};
        for (std::size_t layer = 0; layer < file.shape("q")[0]; ++layer) {
            CAPTURE(name, layer);
            CHECK(error_on<TestType>(file, layer) <= std::max(allowed_error<typename TestType::stored>,
                                                              allowed_error<typename TestType::query>));
        }
    }
}
