// SPDX-License-Identifier: Apache-2.0
#include "truth.hpp"

#include <algorithm>
#include <cmath>

namespace oracle {

std::vector<double> softmax(const float* query, const std::vector<const float*>& keys, std::size_t width) {
    std::vector<double> weights;
    for (const float* key : keys) {
        double product = 0;
        for (std::size_t column = 0; column < width; ++column)
            product += static_cast<double>(query[column]) * static_cast<double>(key[column]);
        weights.push_back(product / std::sqrt(static_cast<double>(width)));
    }
    const double largest = *std::max_element(weights.begin(), weights.end());
    double total = 0;
    for (double& weight : weights)
        total += weight = std::exp(weight - largest);
    for (double& weight : weights)
        weight /= total;
    return weights;
}

namespace {

void observe_keys(const layer_inputs& inputs, const sizes& size, layer_truth& truth) {
    for (std::size_t head = 0; head < size.kv_heads; ++head) {
        std::vector<double> mean(size.width, 0);
        const float* keys = &inputs.k[head * size.tokens * size.width];
        const auto product = [&](std::size_t token, const auto& other) {
            double sum = 0;
            for (std::size_t column = 0; column < size.width; ++column)
                sum += static_cast<double>(keys[token * size.width + column]) *
                       static_cast<double>(other[column]);
            return sum;
        };
        const auto norm = [&](std::size_t token) {
            return std::sqrt(product(token, keys + token * size.width));
        };
        for (std::size_t token = 0; token < size.tokens; ++token)
            for (std::size_t column = 0; column < size.width; ++column)
                mean[column] += static_cast<double>(keys[token * size.width + column]) / norm(token) /
                                static_cast<double>(size.tokens);
        double length = 0;
        for (const double value : mean)
            length += value * value;
        for (std::size_t token = 0; token < size.tokens; ++token) {
            truth.key_norms.push_back(static_cast<float>(norm(token)));
            truth.similarity.push_back(
                static_cast<float>(product(token, mean) / norm(token) / std::sqrt(length)));
        }
    }
}

void observe_values(const layer_inputs& inputs, const sizes& size, layer_truth& truth) {
    for (std::size_t head = 0; head < size.kv_heads; ++head)
        for (std::size_t token = 0; token < size.tokens; ++token) {
            const float* value = &inputs.v[(head * size.tokens + token) * size.width];
            double norms = 0;
            for (std::size_t member = 0; member < size.group(); ++member) {
                const float* wo = &inputs.wo[(head * size.group() + member) * size.width * size.hidden];
                for (std::size_t unit = 0; unit < size.hidden; ++unit) {
                    double output = 0;
                    for (std::size_t column = 0; column < size.width; ++column)
                        output += static_cast<double>(value[column]) *
                                  static_cast<double>(wo[column * size.hidden + unit]);
                    norms += std::abs(output);
                }
            }
            truth.output_norms.push_back(static_cast<float>(norms / static_cast<double>(size.group())));
        }
}

} // namespace

layer_truth observe_layer(const layer_inputs& inputs, const sizes& size, std::size_t window) {
    layer_truth truth;
    observe_keys(inputs, size, truth);
    observe_values(inputs, size, truth);
    truth.outputs.assign(size.query_heads * size.tokens * size.width, 0);
    for (std::size_t query_head = 0; query_head < size.query_heads; ++query_head) {
        const std::size_t head = query_head / size.group();
        std::vector<double> sums(size.tokens, 0);
        std::vector<const float*> keys;
        for (std::size_t token = 0; token < size.tokens; ++token) {
            keys.push_back(&inputs.k[(head * size.tokens + token) * size.width]);
            const auto weights =
                softmax(&inputs.q[(query_head * size.tokens + token) * size.width], keys, size.width);
            double* output = &truth.outputs[(query_head * size.tokens + token) * size.width];
            for (std::size_t seen = 0; seen <= token; ++seen) {
                sums[seen] += weights[seen];
                for (std::size_t column = 0; column < size.width; ++column)
                    output[column] +=
                        weights[seen] *
                        static_cast<double>(inputs.v[(head * size.tokens + seen) * size.width + column]);
            }
            if (token + window >= size.tokens) {
                for (const double weight : weights)
                    truth.probabilities.push_back(static_cast<float>(weight));
                truth.probabilities.insert(truth.probabilities.end(), size.tokens - weights.size(), 0.0f);
            }
        }
        for (const double sum : sums)
            truth.accumulated.push_back(static_cast<float>(sum));
    }
    return truth;
}

} // namespace oracle
