// SPDX-License-Identifier: Apache-2.0
#include "app/generate.hpp"

#include "app/stopwatch.hpp"
#include "io/input_error.hpp"

#include <algorithm>
#include <span>
#include <string>

namespace decoder {

namespace {

void require(const vtensor::status& outcome, const std::string& when) {
    if (outcome)
        return;
    if (vtensor::is_shortage(outcome.code()))
        refuse("the KV cache could not grow " + when + ": " + to_string(outcome.error()) +
               "; raise --kv-limit, lower --max-tokens, or free memory");
    refuse("the step " + when + " failed: " + to_string(outcome.error()) + "; choose another --backend");
}

/// What is left of the prompt, or a chunk of it; but the tokens that an eviction policy observes come
/// together at the end. How a prompt is cut does not change what comes out.
std::size_t chunk_length(const generation_request& request, const kv_cache& cache, std::size_t left) {
    const std::size_t observed = cache.observed_queries();
    const std::size_t chunk = std::max(request.prefill_chunk, observed);
    if (left <= chunk)
        return left;
    return left - chunk < observed ? left - observed : chunk;
}

void prefill(llama& model, kv_cache& cache, const generation_request& request, std::span<float> logits,
             thread_pool& threads) {
    const std::span<const int> prompt{request.prompt};
    for (std::size_t done = 0; done < prompt.size();) {
        const auto chunk = prompt.subspan(done, chunk_length(request, cache, prompt.size() - done));
        done += chunk.size();
        const auto wanted = done == prompt.size() ? logits : std::span<float>{};
        require(model.try_step(cache, chunk, wanted, threads),
                "to the " + std::to_string(done) + " tokens of the prompt");
    }
    require(cache.try_evict(true, threads), "that evicts behind the prompt");
}

} // namespace

generation generate(llama& model, kv_cache& cache, const generation_request& request, thread_pool& threads,
                    const std::function<void(int)>& on_token) {
    generation out;
    std::vector<float> logits(model.config().vocabulary);
    const stopwatch prefill_time;
    prefill(model, cache, request, logits, threads);
    out.prefill_seconds = prefill_time.seconds();

    sampler choose{request.how};
    const auto& ends = model.config().eos_tokens;
    const stopwatch decode_time;
    while (true) {
        const int token = choose.choose(logits);
        if (std::find(ends.begin(), ends.end(), token) != ends.end()) {
            out.stopped = stop_reason::end_token;
            break;
        }
        out.tokens.push_back(token);
        on_token(token);
        if (out.tokens.size() == request.max_tokens)
            break;
        require(model.try_step(cache, std::span{&token, 1}, logits, threads),
                "after " + std::to_string(out.tokens.size()) + " generated tokens");
        require(cache.try_evict(false, threads),
                "that evicts after " + std::to_string(out.tokens.size()) + " generated tokens");
        ++out.decode_steps;
    }
    out.decode_seconds = decode_time.seconds();
    return out;
}

} // namespace decoder
