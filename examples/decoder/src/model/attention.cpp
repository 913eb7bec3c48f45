// SPDX-License-Identifier: Apache-2.0
#include "model/attention.hpp"

#include <vtensor/attention/host.hpp>

#include <algorithm>
#include <utility>

namespace decoder {

namespace {

using policy = vtensor::attention::host;

} // namespace

void attention::make_room(std::size_t count) {
    std::apply([&](auto&... of_type) { (of_type.resize(std::max(of_type.size(), count)), ...); }, queries_);
}

vtensor::status attention::operator()(const kv_heads& rows, std::span<const float> queries, std::size_t first,
                                      std::size_t count, std::size_t heads, std::span<float> out,
                                      const vtensor::tensor_view<float, 3>& scores,
                                      thread_pool& threads) noexcept {
    const std::size_t watched = scores.data == nullptr ? 0 : scores.extents[1];
    const auto attend =
        [&]<class T>(std::span<const vtensor::attention::kv_head<T>> read) -> vtensor::status {
        auto& described_queries = std::get<described<T>>(queries_);
        const std::size_t width = queries.size() / (count * heads);
        const auto all_queries = vtensor::make_view(queries.data(), count, heads, width);
        const auto all_outputs = vtensor::make_view(out.data(), count, heads, width);
        for (std::size_t i = 0; i < count; ++i) {
            auto& one = described_queries[i];
            one = {.queries = all_queries.rows(i, 1),
                   .heads = read,
                   .output = all_outputs.rows(i, 1),
                   .first_position = static_cast<vtensor::position_type>(first + i)};
            if (i + watched >= count) {
                one.scores = scores;
                one.scores.data += static_cast<std::ptrdiff_t>(i + watched - count) * scores.strides[1];
                one.scores.extents[1] = 1;
            }
        }
        const std::span sequences{std::as_const(described_queries)};
        return policy{}(vtensor::attention::problem<T>{.sequences = sequences.first(count)}, threads);
    };
    return std::visit(attend, rows);
}

} // namespace decoder
