// SPDX-License-Identifier: Apache-2.0
#include "ragged_llama.hpp"

#include "model/products.hpp"

#include <vtensor/attention/evidence.hpp>
#include <vtensor/attention/host.hpp>

#include <cmath>
#include <stdexcept>
#include <string>

namespace vtensor::bench {

namespace {

void check(const status& outcome) {
    if (!outcome)
        throw std::runtime_error{"attention refused its problem"};
}

} // namespace

// ---- evidence ----

void prompt_evidence::reset(std::size_t layers, std::size_t query_heads, std::size_t kv_heads,
                            std::size_t rows, std::size_t window) {
    query_heads_ = query_heads;
    kv_heads_ = kv_heads;
    rows_ = rows;
    window_ = std::min(window, rows);
    arrays_.resize(layers);
    shown_.assign(layers, {});
}

void prompt_evidence::show(std::size_t layer, const ragged_cache& cache, std::span<const float> probabilities,
                           tensor_view<const float, 3> output_projection) {
    arrays& own = arrays_[layer];
    const auto heads = cache.described(layer);
    own.heads.clear();
    for (const auto& head : heads)
        own.heads.push_back({.rows = head.rows, .positions = head.positions});
    const auto all = make_view(probabilities.data(), query_heads_, rows_, rows_);

    own.window.resize(query_heads_ * window_ * rows_);
    for (std::size_t head = 0; head < query_heads_; ++head)
        std::copy_n(&all(head, rows_ - window_, 0), window_ * rows_,
                    own.window.data() + head * window_ * rows_);
    own.accumulated.assign(query_heads_ * rows_, 0.0F);
    for (auto* const array : {&own.key_norms, &own.key_similarity, &own.output_norms})
        array->resize(kv_heads_ * rows_);
    const attention::inline_executor here;
    const auto by_head = [&](std::vector<float>& array) { return make_view(array.data(), kv_heads_, rows_); };
    const std::span described{heads};
    check(attention::accumulate(all, make_view(own.accumulated.data(), query_heads_, rows_), here));
    check(attention::key_norms(described, cache.width(), by_head(own.key_norms), here));
    check(attention::key_similarity(described, cache.width(), by_head(own.key_similarity), here));
    check(attention::output_norms(described, output_projection, by_head(own.output_norms), here));

    const auto constant = [&](const std::vector<float>& array) {
        return make_view(array.data(), kv_heads_, rows_);
    };
    shown_[layer] = {.heads = own.heads,
                     .probabilities =
                         make_view(std::as_const(own.window).data(), query_heads_, window_, rows_),
                     .accumulated = make_view(std::as_const(own.accumulated).data(), query_heads_, rows_),
                     .key_norms = constant(own.key_norms),
                     .key_similarity = constant(own.key_similarity),
                     .output_norms = constant(own.output_norms),
                     .next_position = static_cast<position_type>(rows_)};
}

// ---- the model ----

ragged_llama::matrix ragged_llama::read(const decoder::weight& from) {
    std::size_t count = 1;
    for (const std::size_t extent : from.shape)
        count *= extent;
    matrix made{.elements = std::vector<float>(count), .view = from};
    decoder::read_elements(from, 0, made.elements);
    made.view.type = decoder::element_type::f32;
    made.view.data = reinterpret_cast<const std::byte*>(made.elements.data()); // moving a vector keeps it
    return made;
}

ragged_llama::ragged_llama(const decoder::model_config& config, const decoder::checkpoint& weights)
    : config_{config}, rotator_{config} {
    const std::size_t queries = config.heads * config.head_dim;
    const std::size_t keys = config.kv_heads * config.head_dim;
    const std::size_t wide = config.intermediate;
    const auto get = [&](const std::string& name, std::initializer_list<std::size_t> shape) {
        return read(weights.require(name + ".weight", shape));
    };
    embedding_ = get("model.embed_tokens", {config.vocabulary, config.hidden});
    norm_ = get("model.norm", {config.hidden});
    head_ =
        get(config.tied_embeddings ? "model.embed_tokens" : "lm_head", {config.vocabulary, config.hidden});
    for (std::size_t index = 0; index < config.layers; ++index) {
        const std::string in = "model.layers." + std::to_string(index) + ".";
        layers_.push_back({get(in + "input_layernorm", {config.hidden}),
                           get(in + "self_attn.q_proj", {queries, config.hidden}),
                           get(in + "self_attn.k_proj", {keys, config.hidden}),
                           get(in + "self_attn.v_proj", {keys, config.hidden}),
                           get(in + "self_attn.o_proj", {config.hidden, queries}),
                           get(in + "post_attention_layernorm", {config.hidden}),
                           get(in + "mlp.gate_proj", {wide, config.hidden}),
                           get(in + "mlp.up_proj", {wide, config.hidden}),
                           get(in + "mlp.down_proj", {config.hidden, wide})});
    }
}

std::span<const float> ragged_llama::step(ragged_cache& cache, std::span<const int> tokens,
                                          position_type first, prompt_evidence* evidence) {
    const std::size_t count = tokens.size();
    x_.resize(count * config_.hidden);
    for (std::size_t index = 0; index < count; ++index)
        std::copy_n(embedding_.elements.data() + static_cast<std::size_t>(tokens[index]) * config_.hidden,
                    config_.hidden, x_.data() + index * config_.hidden);
    rotator_.prepare(first, count);
    if (evidence != nullptr)
        evidence->reset(config_.layers, config_.heads, config_.kv_heads, count, window);
    for (std::size_t index = 0; index < layers_.size(); ++index) {
        attend(index, cache, count, first, evidence);
        feed_forward(layers_[index], count);
    }
    normalise(norm_, count);
    multiply(head_, normed_, count, logits_);
    return logits_;
}

/// normed = x / rms(x) · scale, row by row (arXiv 1910.07467).
void ragged_llama::normalise(const matrix& scale, std::size_t count) {
    normed_.resize(x_.size());
    for (std::size_t row = 0; row < count; ++row) {
        const float* const x = x_.data() + row * config_.hidden;
        double sum = 0;
        for (std::size_t i = 0; i < config_.hidden; ++i)
            sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
        const double mean = sum / static_cast<double>(config_.hidden);
        const auto inverse =
            static_cast<float>(1 / std::sqrt(mean + static_cast<double>(config_.norm_epsilon)));
        for (std::size_t i = 0; i < config_.hidden; ++i)
            normed_[row * config_.hidden + i] = x[i] * inverse * scale.elements[i];
    }
}

void ragged_llama::multiply(const matrix& by, const std::vector<float>& input, std::size_t count,
                            std::vector<float>& output) {
    output.resize(count * by.view.shape.front());
    decoder::multiply(by.view, input, count, output, alone_);
}

void ragged_llama::add_product(const matrix& by, const std::vector<float>& input, std::size_t count) {
    multiply(by, input, count, added_);
    for (std::size_t i = 0; i < x_.size(); ++i)
        x_[i] += added_[i];
}

void ragged_llama::attend(std::size_t index, ragged_cache& cache, std::size_t count, position_type first,
                          prompt_evidence* evidence) {
    const layer& weights = layers_[index];
    const std::size_t width = config_.head_dim;
    normalise(weights.attention_norm, count);
    multiply(weights.q, normed_, count, q_);
    multiply(weights.k, normed_, count, k_);
    multiply(weights.v, normed_, count, v_);
    const auto rows_of = [&](std::vector<float>& vectors, std::size_t row) {
        const std::size_t size = vectors.size() / count;
        return std::span{vectors}.subspan(row * size, size);
    };
    for (std::size_t row = 0; row < count; ++row) {
        rotator_.rotate(row, rows_of(q_, row));
        rotator_.rotate(row, rows_of(k_, row));
        for (std::size_t head = 0; head < config_.kv_heads; ++head) {
            ragged_head& own = cache.layer(index)[head];
            const auto key = rows_of(k_, row).subspan(head * width, width);
            const auto value = rows_of(v_, row).subspan(head * width, width);
            own.keys.insert(own.keys.end(), key.begin(), key.end());
            own.values.insert(own.values.end(), value.begin(), value.end());
            own.positions.push_back(first + static_cast<position_type>(row));
        }
    }
    mixed_.resize(q_.size());
    const auto heads = cache.described(index);
    attention::sequence<float> one{.queries =
                                       make_view(std::as_const(q_).data(), count, config_.heads, width),
                                   .heads = heads,
                                   .output = make_view(mixed_.data(), count, config_.heads, width),
                                   .first_position = first};
    if (evidence != nullptr) {
        probabilities_.resize(config_.heads * count * count);
        one.scores = make_view(probabilities_.data(), config_.heads, count, count);
    }
    check(attention::host{}(attention::problem<float>{.sequences = {&one, 1}}, attention::inline_executor{}));
    if (evidence != nullptr) {
        // The checkpoint's matrix [hidden, query heads × width], seen head by head.
        tensor_view<const float, 3> projection =
            make_view(weights.o.elements.data(), config_.heads, width, config_.hidden);
        projection.strides[0] = static_cast<std::ptrdiff_t>(width);
        projection.strides[1] = 1;
        projection.strides[2] = static_cast<std::ptrdiff_t>(config_.heads * width);
        evidence->show(index, cache, probabilities_, projection);
    }
    add_product(weights.o, mixed_, count);
}

/// x += down · (silu(gate · normed) ∘ (up · normed)) (arXiv 2002.05202)
void ragged_llama::feed_forward(const layer& weights, std::size_t count) {
    normalise(weights.mlp_norm, count);
    multiply(weights.gate, normed_, count, gate_);
    multiply(weights.up, normed_, count, up_);
    for (std::size_t i = 0; i < gate_.size(); ++i)
        gate_[i] *= up_[i] / (1 + std::exp(-gate_[i]));
    add_product(weights.down, gate_, count);
}

} // namespace vtensor::bench
