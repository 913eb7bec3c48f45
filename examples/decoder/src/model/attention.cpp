// SPDX-License-Identifier: Apache-2.0
#include "model/attention.hpp"

#include <vtensor/attention/host.hpp>

#include <algorithm>
#include <type_traits>
#include <utility>

namespace decoder {

namespace {

using policy = vtensor::attention::host;

template <class View>
using element_of = typename std::remove_cvref_t<View>::value_type;

} // namespace

attention::attention(std::size_t kv_heads) {
    std::apply([&](auto&... of_type) { (of_type.heads.resize(kv_heads), ...); }, descriptors_);
}

void attention::make_room(std::size_t count) {
    std::apply(
        [&](auto&... of_type) { (of_type.queries.resize(std::max(of_type.queries.size(), count)), ...); },
        descriptors_);
}

vtensor::status attention::operator()(const kv_view& keys, const kv_view& values,
                                      std::span<const float> queries, std::size_t count, std::size_t heads,
                                      std::span<float> out, thread_pool& threads) noexcept {
    const auto attend = [&](const auto& k) -> vtensor::status {
        using element = element_of<decltype(k)>;
        auto& described = std::get<descriptors<element>>(descriptors_);
        const auto& v = *std::get_if<vtensor::tensor_view<element, 3>>(&values);
        if (const auto outcome = vtensor::attention::describe_heads<element>(described.heads, k, v); !outcome)
            return outcome;
        const std::size_t width = k.extents[2];
        const auto all_queries = vtensor::make_view(queries.data(), count, heads, width);
        const auto all_outputs = vtensor::make_view(out.data(), count, heads, width);
        for (std::size_t i = 0; i < count; ++i)
            described.queries[i] = {
                .queries = all_queries.rows(i, 1),
                .heads = described.heads,
                .output = all_outputs.rows(i, 1),
                .first_position = static_cast<vtensor::attention::position_type>(k.extents[0] - count + i)};
        const std::span sequences{std::as_const(described.queries)};
        return policy{}(vtensor::attention::problem<element>{.sequences = sequences.first(count)}, threads);
    };
    return std::visit(attend, keys);
}

} // namespace decoder
