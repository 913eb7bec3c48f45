// SPDX-License-Identifier: Apache-2.0
#include "model/evidence_maker.hpp"

#include <vtensor/attention/evidence.hpp>

#include <algorithm>
#include <utility>

namespace decoder {

namespace {

namespace eviction = vtensor::eviction;
using vtensor::make_view;
using vtensor::status;
using vtensor::tensor_view;

} // namespace

evidence_maker::evidence_maker(const sizes& model, const eviction::evidence_needs& needs,
                               float recurrence_threshold, std::vector<weight> output_weights)
    : model_{model}, needs_{needs}, output_weights_{std::move(output_weights)}, layers_(model.layers) {
    for (layer_state& layer : layers_) {
        if (needs.accumulated)
            layer.sums.emplace(model.query_heads, model.kv_heads);
        if (needs.recurrence)
            layer.recurrence.emplace(model.kv_heads, recurrence_threshold);
    }
}

tensor_view<float, 3> evidence_maker::watch(std::size_t count, std::size_t rows) {
    const std::size_t queries = watches_all() ? count : std::min(count, needs_.window_queries);
    watching_ = {};
    if (queries == 0)
        return watching_;
    watched_.resize(std::max(watched_.size(), model_.query_heads * queries * rows));
    return watching_ = make_view(watched_.data(), model_.query_heads, queries, rows);
}

status evidence_maker::note(std::size_t index, std::span<const eviction::head_rows> heads) {
    if (watching_.data == nullptr)
        return {};
    layer_state& layer = layers_[index];
    status outcome;
    if (layer.sums)
        outcome = layer.sums->add(heads, watching_);
    if (layer.recurrence && outcome)
        outcome = layer.recurrence->observe(heads, watching_);
    if (needs_.window_queries == 0 || !outcome)
        return outcome;
    layer.queries = std::min(watching_.extents[1], needs_.window_queries);
    layer.rows = watching_.extents[2];
    layer.window.resize(model_.query_heads * layer.queries * layer.rows);
    float* to = layer.window.data();
    for (std::size_t head = 0; head < model_.query_heads; ++head)
        for (std::size_t query = watching_.extents[1] - layer.queries; query < watching_.extents[1]; ++query)
            to = std::copy_n(&watching_(head, query, 0), layer.rows, to);
    return {};
}

vtensor::result<eviction::layer_evidence> evidence_maker::show(std::size_t index, const kv_heads& rows,
                                                               std::span<const eviction::head_rows> heads,
                                                               std::size_t tokens, thread_pool& threads) {
    layer_state& layer = layers_[index];
    eviction::layer_evidence shown{.heads = heads,
                                   .next_position = static_cast<vtensor::position_type>(tokens)};
    if (needs_.window_queries != 0)
        shown.probabilities =
            make_view(std::as_const(layer.window).data(), model_.query_heads, layer.queries, layer.rows);
    if (layer.sums)
        shown.accumulated = layer.sums->view();
    if (layer.recurrence) {
        const auto importance = layer.recurrence->importance();
        if (!importance)
            return importance.status();
        shown.recurrence = *importance;
    }
    std::size_t longest = 0;
    for (const eviction::head_rows& head : heads)
        longest = std::max(longest, head.rows);
    const auto place = [&](std::vector<float>& in) {
        in.resize(model_.kv_heads * longest);
        return make_view(in.data(), model_.kv_heads, longest);
    };
    const auto measure = [&](auto read) -> status {
        status outcome;
        if (needs_.key_norms) {
            const auto norms = place(layer.key_norms);
            outcome = vtensor::attention::key_norms(read, model_.head_dim, norms, threads);
            shown.key_norms = norms;
        }
        if (needs_.key_similarity && outcome) {
            const auto similarity = place(layer.key_similarity);
            outcome = vtensor::attention::key_similarity(read, model_.head_dim, similarity, threads);
            shown.key_similarity = similarity;
        }
        if (needs_.output_norms && outcome) {
            const weight& from = output_weights_[index];
            const std::size_t columns = from.columns();
            const std::size_t hidden = from.shape.front();
            projection_.resize(hidden * columns);
            read_elements(from, 0, projection_);
            auto projection =
                make_view(std::as_const(projection_).data(), model_.query_heads, model_.head_dim, hidden);
            projection.strides[0] = static_cast<std::ptrdiff_t>(model_.head_dim);
            projection.strides[1] = 1;
            projection.strides[2] = static_cast<std::ptrdiff_t>(columns);
            const auto norms = place(layer.output_norms);
            outcome = vtensor::attention::output_norms(read, projection, norms, threads);
            shown.output_norms = norms;
        }
        return outcome;
    };
    if (const status outcome = std::visit(measure, rows); !outcome)
        return outcome;
    return shown;
}

void evidence_maker::follow(std::size_t index, std::size_t kv_head, const vtensor::defrag::plan& moves) {
    if (layers_[index].sums)
        layers_[index].sums->apply(moves, kv_head);
    if (layers_[index].recurrence)
        layers_[index].recurrence->apply(moves, kv_head);
}

} // namespace decoder
