// SPDX-License-Identifier: Apache-2.0
#include "model/rope.hpp"

#include <cmath>
#include <numbers>

namespace decoder {

namespace {

/// Long waves are stretched by `factor`, short ones kept, those between blended (Llama 3.1).
double scaled(double frequency, const llama3_scaling& scaling) {
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength < scaling.original_context / scaling.high_frequency_factor)
        return frequency;
    if (wavelength > scaling.original_context / scaling.low_frequency_factor)
        return frequency / scaling.factor;
    const double kept = (scaling.original_context / wavelength - scaling.low_frequency_factor) /
                        (scaling.high_frequency_factor - scaling.low_frequency_factor);
    return (1 - kept) * frequency / scaling.factor + kept * frequency;
}

} // namespace

std::vector<float> rope_frequencies(const model_config& config) {
    std::vector<float> frequencies;
    for (std::size_t pair = 0; pair < config.head_dim / 2; ++pair) {
        const double exponent = static_cast<double>(2 * pair) / static_cast<double>(config.head_dim);
        const double frequency = std::pow(config.rope_theta, -exponent);
        frequencies.push_back(
            static_cast<float>(config.rope_scaling ? scaled(frequency, *config.rope_scaling) : frequency));
    }
    return frequencies;
}

void rotator::prepare(std::size_t first, std::size_t count) {
    const std::size_t half = frequencies_.size();
    cosines_.resize(count * half);
    sines_.resize(count * half);
    for (std::size_t i = 0; i < count * half; ++i) {
        const float angle = static_cast<float>(first + i / half) * frequencies_[i % half];
        cosines_[i] = std::cos(angle);
        sines_[i] = std::sin(angle);
    }
}

void rotator::rotate(std::size_t index, std::span<float> vectors) const {
    const std::size_t half = frequencies_.size();
    const auto cosines = std::span{cosines_}.subspan(index * half, half);
    const auto sines = std::span{sines_}.subspan(index * half, half);
    for (std::size_t start = 0; start < vectors.size(); start += 2 * half) {
        const auto low = vectors.subspan(start, half);
        const auto high = vectors.subspan(start + half, half);
        for (std::size_t pair = 0; pair < half; ++pair) {
            const float x = low[pair];
            const float y = high[pair];
            low[pair] = x * cosines[pair] - y * sines[pair];
            high[pair] = y * cosines[pair] + x * sines[pair];
        }
    }
}

} // namespace decoder
