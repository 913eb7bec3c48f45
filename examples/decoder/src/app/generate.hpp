// SPDX-License-Identifier: Apache-2.0
//
// From a prompt to new tokens: prefill in chunks, then one token a step. Knows neither text nor files.
#pragma once

#include "model/kv_cache.hpp"
#include "model/llama.hpp"
#include "model/sampler.hpp"
#include "model/thread_pool.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace decoder {

struct generation_request {
    std::vector<int> prompt; ///< at least one token
    std::size_t max_tokens = 1;
    std::size_t prefill_chunk = 256;
    sampling how;
};

enum class stop_reason : std::uint8_t { max_tokens, end_token };

struct generation {
    std::vector<int> tokens; ///< without the end token
    stop_reason stopped = stop_reason::max_tokens;
    std::size_t decode_steps = 0; ///< the first token comes out of the prefill
    double prefill_seconds = 0;
    double decode_seconds = 0;
};

/// Generates until `max_tokens` or an end token of the model; `on_token` sees each token as soon as it is
/// chosen. `input_error` where memory runs out, saying how far it got.
[[nodiscard]] generation generate(llama& model, kv_cache& cache, const generation_request& request,
                                  thread_pool& threads, const std::function<void(int)>& on_token);

} // namespace decoder
