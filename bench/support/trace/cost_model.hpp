// SPDX-License-Identifier: Apache-2.0
//
// How long a step of the model takes on the simulated clock. The constants are assumptions, near what a model
// of 8 billion parameters in half precision with 128 KiB of KV a token may take on a GPU that reads 4 TB/s:
// 16 GB of weights a step and 32 ns for the KV of a token. They are the same for every memory manager: what a
// block table costs a kernel is another bench's question.
#pragma once

#include <cstddef>

namespace vtensor::bench {

struct cost_model {
    double step = 6e-3;           ///< seconds: the weights, and launching
    double sequence = 20e-6;      ///< seconds a decoding sequence: sampling and book-keeping
    double context_token = 33e-9; ///< seconds a token that decoding attends to
    double prefill_tokens_per_second = 20'000;

    /// Seconds of a step that computes `prefill` tokens of prompts, and one token each for `sequences` that
    /// have `context` tokens together.
    [[nodiscard]] double seconds(std::size_t prefill, std::size_t sequences,
                                 std::size_t context) const noexcept {
        return step + sequence * static_cast<double>(sequences) +
               context_token * static_cast<double>(context) +
               static_cast<double>(prefill) / prefill_tokens_per_second;
    }
};

} // namespace vtensor::bench
