// SPDX-License-Identifier: Apache-2.0
//
// Many prompts at once, by continuous batching: every step adds one token to all sequences that run; one that
// is finished makes room, and the next one is let in between two steps. Knows neither text nor files.
#pragma once

#include "app/generate.hpp"
#include "model/llama.hpp"
#include "model/managed_sequences.hpp"
#include "model/sampler.hpp"
#include "model/thread_pool.hpp"

#include <vtensor/kv/manager_stats.hpp>

#include <cstddef>
#include <optional>
#include <vector>

namespace decoder {

struct batch_prompt {
    std::vector<int> tokens; ///< at least one
    std::size_t max_tokens = 1;
};

struct batch_request {
    std::vector<batch_prompt> prompts;
    std::size_t samples = 1; ///< texts of each prompt; sample s is drawn with the seed `how.seed` + s
    std::size_t prefill_chunk = 256;
    sampling how;
};

struct completion {
    std::vector<int> tokens; ///< without the end token
    stop_reason stopped = stop_reason::max_tokens;
};

/// The manager and the kernel at one moment.
struct memory_moment {
    vtensor::kv::manager_stats manager{};
    std::optional<vtensor::bytes> kernel{};
};

struct batch_figures {
    std::size_t steps = 0;
    std::size_t most_running = 0;   ///< sequences at once
    std::size_t prefill_tokens = 0; ///< that were computed: prompts, and what preempted sequences had lost
    std::size_t decode_tokens = 0;  ///< computed one by one, a step
    double prefill_seconds = 0;
    double decode_seconds = 0;
    memory_moment busiest; ///< the step with the most tokens
    memory_moment end;     ///< all sequences are over
};

struct batch_outcome {
    std::vector<completion> completions; ///< prompt by prompt, sample by sample
    batch_figures figures;
};

/// The same tokens as `generate` chooses for each sample by itself. Where memory is short, sequences wait, or
/// are preempted and computed again later; `input_error` where not even one of them can go on, or where the
/// manager fails; whatever is thrown, none of the sequences is left with the manager, which can be used
/// again.
[[nodiscard]] batch_outcome generate_batch(llama& model, managed_sequences& sequences,
                                           const batch_request& request, thread_pool& threads);

/// Time of the calling thread in the manager, all verbs together.
[[nodiscard]] double seconds_in(const vtensor::kv::manager_stats& manager) noexcept;

} // namespace decoder
