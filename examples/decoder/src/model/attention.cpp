// SPDX-License-Identifier: Apache-2.0
#include "model/attention.hpp"

#include <vtensor/attention/host.hpp>

#include <algorithm>
#include <type_traits>

namespace decoder {

namespace {

using policy = vtensor::attention::host;

template <class View>
using element_of = typename std::remove_cvref_t<View>::value_type;

} // namespace

void store(const kv_view& view, std::size_t first, std::span<const float> rows) noexcept {
    std::visit(
        [&](const auto& tensor) {
            using element = element_of<decltype(tensor)>;
            std::transform(rows.begin(), rows.end(), tensor[first].data,
                           [](float value) { return vtensor::from_float<element>(value); });
        },
        view);
}

attention::attention(std::size_t kv_heads)
    : heads_{descriptors<float>(kv_heads), descriptors<vtensor::float16>(kv_heads),
             descriptors<vtensor::bfloat16>(kv_heads)} {}

vtensor::status attention::operator()(const kv_view& keys, const kv_view& values,
                                      std::span<const float> queries, std::size_t count, std::size_t heads,
                                      std::span<float> out, thread_pool& threads) noexcept {
    const auto attend = [&](const auto& k) -> vtensor::status {
        using element = element_of<decltype(k)>;
        auto& described = std::get<descriptors<element>>(heads_);
        const auto& v = *std::get_if<vtensor::tensor_view<element, 3>>(&values);
        if (const auto outcome = vtensor::attention::describe_heads<element>(described, k, v); !outcome)
            return outcome;
        const std::size_t width = k.extents[2];
        const vtensor::attention::sequence<element> one{
            .queries = vtensor::make_view(queries.data(), count, heads, width),
            .heads = described,
            .output = vtensor::make_view(out.data(), count, heads, width)};
        return policy{}(vtensor::attention::problem<element>{.sequences = {&one, 1}}, threads);
    };
    return std::visit(attend, keys);
}

} // namespace decoder
