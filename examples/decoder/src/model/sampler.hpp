// SPDX-License-Identifier: Apache-2.0
//
// Chooses the next token from logits: the likeliest one, or a draw by temperature and top-p (nucleus
// sampling, arXiv 1904.09751). The same seed and the same logits give the same tokens on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace decoder {

struct sampling {
    double temperature = 0; ///< 0: always the likeliest token
    double top_p = 1;       ///< draw among the likeliest tokens that together reach this probability
    std::uint64_t seed = 0;
};

class sampler {
  public:
    explicit sampler(const sampling& how) : how_{how}, random_{how.seed} {}

    /// The next token; the lowest of equals. Refuses logits that are not finite with `input_error`: a model
    /// that computes them is damaged.
    [[nodiscard]] int choose(std::span<const float> logits);

  private:
    [[nodiscard]] double draw();

    sampling how_;
    std::mt19937_64 random_;
    std::vector<std::pair<double, int>> candidates_; // unnormalised probability, token
};

} // namespace decoder
