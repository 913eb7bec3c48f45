// SPDX-License-Identifier: Apache-2.0
#include "model/sampler.hpp"

#include "io/input_error.hpp"

#include <algorithm>
#include <cmath>

namespace decoder {

/// Uniform in [0, 1): the standard distributions differ between libraries, this does not.
double sampler::draw() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

int sampler::choose(std::span<const float> logits) {
    if (!std::all_of(logits.begin(), logits.end(), [](float value) { return std::isfinite(value); }))
        refuse("the model computes values that are not finite; the checkpoint is damaged, fetch it again");
    const auto likeliest = std::max_element(logits.begin(), logits.end());
    if (how_.temperature == 0)
        return static_cast<int>(likeliest - logits.begin());

    candidates_.clear();
    double total = 0;
    for (std::size_t token = 0; token < logits.size(); ++token) {
        const double weight = std::exp(
            (static_cast<double>(logits[token]) - static_cast<double>(*likeliest)) / how_.temperature);
        candidates_.emplace_back(weight, static_cast<int>(token));
        total += weight;
    }
    if (how_.top_p < 1) {
        std::sort(candidates_.begin(), candidates_.end(), [](const auto& left, const auto& right) {
            return left.first != right.first ? left.first > right.first : left.second < right.second;
        });
        const double enough = how_.top_p * total;
        std::size_t kept = 0;
        for (total = 0; kept < candidates_.size() && (kept == 0 || total < enough); ++kept)
            total += candidates_[kept].first;
        candidates_.resize(kept);
    }
    double left = draw() * total;
    for (const auto& [weight, token] : candidates_) {
        left -= weight;
        if (left < 0)
            return token;
    }
    return candidates_.front().second;
}

} // namespace decoder
