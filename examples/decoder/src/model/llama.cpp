// SPDX-License-Identifier: Apache-2.0
#include "model/llama.hpp"

#include "model/products.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace decoder {

namespace {

float sigmoid(float x) { return 1.0F / (1.0F + std::exp(-x)); }

/// Summed in double: the sum is long, and the order of its terms must not matter to the result.
float mean_square(std::span<const float> x) {
    double sum = 0;
    for (const float value : x)
        sum += static_cast<double>(value) * static_cast<double>(value);
    return static_cast<float>(sum / static_cast<double>(x.size()));
}

} // namespace

llama::llama(const model_config& config, const checkpoint& weights)
    : config_{config},
      embedding_{weights.require("model.embed_tokens.weight", {config.vocabulary, config.hidden})},
      norm_{weights.require("model.norm.weight", {config.hidden})},
      head_{config.tied_embeddings ? embedding_
                                   : weights.require("lm_head.weight", {config.vocabulary, config.hidden})},
      rotator_{config} {
    const std::size_t queries = config.heads * config.head_dim;
    const std::size_t keys = config.kv_heads * config.head_dim;
    for (std::size_t i = 0; i < config.layers; ++i) {
        const std::string in = "model.layers." + std::to_string(i) + ".";
        layers_.push_back(
            {weights.require(in + "input_layernorm.weight", {config.hidden}),
             weights.require(in + "self_attn.q_proj.weight", {queries, config.hidden}),
             weights.require(in + "self_attn.k_proj.weight", {keys, config.hidden}),
             weights.require(in + "self_attn.v_proj.weight", {keys, config.hidden}),
             weights.require(in + "self_attn.o_proj.weight", {config.hidden, queries}),
             weights.require(in + "post_attention_layernorm.weight", {config.hidden}),
             weights.require(in + "mlp.gate_proj.weight", {config.intermediate, config.hidden}),
             weights.require(in + "mlp.up_proj.weight", {config.intermediate, config.hidden}),
             weights.require(in + "mlp.down_proj.weight", {config.hidden, config.intermediate})});
    }
}

std::vector<weight> llama::output_weights() const {
    std::vector<weight> all;
    for (const layer& one : layers_)
        all.push_back(one.o);
    return all;
}

vtensor::status llama::try_step(kv_cache& cache, std::span<const int> tokens, std::span<float> logits,
                                thread_pool& threads) {
    const std::size_t first = cache.rows();
    const std::size_t count = tokens.size();
    make_room(count); // before the cache: what throws here has changed nothing
    rotator_.prepare(first, count);
    if (const vtensor::status outcome = cache.try_grow(first + count); !outcome)
        return outcome;

    embed(tokens);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        if (const vtensor::status outcome = attend(i, cache, first, count, threads); !outcome) {
            cache.undo_growth();
            return outcome;
        }
        feed_forward(layers_[i], count, threads);
    }
    normalise(norm_, count);
    const std::size_t wanted = logits.size() / config_.vocabulary;
    const auto last = std::span<const float>{scratch_.normed}.subspan((count - wanted) * config_.hidden,
                                                                      wanted * config_.hidden);
    multiply(head_, last, wanted, logits, threads);
    return {};
}

void llama::make_room(std::size_t count) {
    const std::size_t queries = count * config_.heads * config_.head_dim;
    const std::size_t keys = count * config_.kv_heads * config_.head_dim;
    for (std::vector<float>* const vector : {&scratch_.x, &scratch_.normed})
        vector->resize(count * config_.hidden);
    for (std::vector<float>* const vector : {&scratch_.q, &scratch_.mixed})
        vector->resize(queries);
    for (std::vector<float>* const vector : {&scratch_.k, &scratch_.v})
        vector->resize(keys);
    for (std::vector<float>* const vector : {&scratch_.gate, &scratch_.up})
        vector->resize(count * config_.intermediate);
    scratch_.norm.resize(config_.hidden);
    attention_.make_room(count);
}

void llama::embed(std::span<const int> tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i)
        read_elements(embedding_, static_cast<std::size_t>(tokens[i]) * config_.hidden,
                      std::span{scratch_.x}.subspan(i * config_.hidden, config_.hidden));
}

/// normed = x / rms(x) · scale, row by row (arXiv 1910.07467).
void llama::normalise(const weight& scale, std::size_t count) {
    const std::size_t hidden = config_.hidden;
    read_elements(scale, 0, scratch_.norm);
    for (std::size_t row = 0; row < count; ++row) {
        const auto x = std::span{scratch_.x}.subspan(row * hidden, hidden);
        const auto y = std::span{scratch_.normed}.subspan(row * hidden, hidden);
        const float inverse = 1 / std::sqrt(mean_square(x) + config_.norm_epsilon);
        for (std::size_t i = 0; i < hidden; ++i)
            y[i] = x[i] * inverse * scratch_.norm[i];
    }
}

/// x += O · attention(Q · normed, K …, V …)
vtensor::status llama::attend(std::size_t index, kv_cache& cache, std::size_t first, std::size_t count,
                              thread_pool& threads) {
    const layer& weights = layers_[index];
    normalise(weights.attention_norm, count);
    multiply(weights.q, scratch_.normed, count, scratch_.q, threads);
    multiply(weights.k, scratch_.normed, count, scratch_.k, threads);
    multiply(weights.v, scratch_.normed, count, scratch_.v, threads);

    const std::size_t queries = config_.heads * config_.head_dim;
    const std::size_t keys = config_.kv_heads * config_.head_dim;
    for (std::size_t i = 0; i < count; ++i) {
        rotator_.rotate(i, std::span{scratch_.q}.subspan(i * queries, queries));
        rotator_.rotate(i, std::span{scratch_.k}.subspan(i * keys, keys));
    }
    vtensor::status outcome = cache.try_store(index, first, scratch_.k, scratch_.v);
    if (!outcome)
        return outcome;
    const auto rows = cache.try_read(index);
    if (!rows)
        return rows.status();
    const auto watched = cache.try_watch(index, count);
    if (!watched)
        return watched.status();
    outcome = attention_(*rows, scratch_.q, first, count, config_.heads, scratch_.mixed, *watched, threads);
    if (outcome)
        outcome = cache.try_note(index, threads);
    if (outcome)
        add_product(weights.o, scratch_.mixed, count, threads);
    return outcome;
}

/// x += down · (silu(gate · normed) ∘ (up · normed)) (arXiv 2002.05202)
void llama::feed_forward(const layer& weights, std::size_t count, thread_pool& threads) {
    normalise(weights.mlp_norm, count);
    multiply(weights.gate, scratch_.normed, count, scratch_.gate, threads);
    multiply(weights.up, scratch_.normed, count, scratch_.up, threads);
    threads(count, [&](std::size_t row) {
        for (std::size_t i = row * config_.intermediate; i < (row + 1) * config_.intermediate; ++i)
            scratch_.gate[i] *= sigmoid(scratch_.gate[i]) * scratch_.up[i];
    });
    add_product(weights.down, scratch_.gate, count, threads);
}

/// x += matrix · input; the product passes through `normed`, which nobody needs any more.
void llama::add_product(const weight& matrix, std::span<const float> input, std::size_t count,
                        thread_pool& threads) {
    multiply(matrix, input, count, scratch_.normed, threads);
    for (std::size_t i = 0; i < count * config_.hidden; ++i)
        scratch_.x[i] += scratch_.normed[i];
}

} // namespace decoder
