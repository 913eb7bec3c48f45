// SPDX-License-Identifier: Apache-2.0
//
// Numbers from a seed, the same on every machine and with every standard library.
#pragma once

#include "workload.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace vtensor::bench {

class random_source {
  public:
    explicit random_source(std::uint64_t seed) : engine_{seed} {}

    /// From `least` to `most`, both among them; the bias is beyond notice.
    [[nodiscard]] std::size_t between(std::size_t least, std::size_t most) {
        return least + static_cast<std::size_t>(engine_() % (most - least + 1));
    }
    /// The time to the next of events that come by chance, `mean` apart.
    [[nodiscard]] double exponential(double mean) {
        const double share = static_cast<double>(engine_() >> 11) * 0x1p-53; // in [0, 1)
        return -mean * std::log1p(-share);
    }
    /// Appends `count` token ids of a vocabulary of 128,000.
    void append_tokens(std::vector<token_id>& tokens, std::size_t count) {
        tokens.reserve(tokens.size() + count);
        for (std::size_t index = 0; index < count; ++index)
            tokens.push_back(static_cast<token_id>(between(0, 127'999)));
    }

  private:
    std::mt19937_64 engine_;
};

} // namespace vtensor::bench
