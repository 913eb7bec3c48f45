// SPDX-License-Identifier: Apache-2.0
//
// Runs a model of a folder greedily, with every choice that must not matter to the result as a parameter.
#pragma once

#include "io/checkpoint.hpp"
#include "io/model_config.hpp"
#include "model/kv_cache.hpp"
#include "model/llama.hpp"
#include "model/thread_pool.hpp"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

namespace decoder_test {

/// A model with the checkpoint it reads from.
struct loaded {
    explicit loaded(const std::filesystem::path& folder)
        : config{decoder::read_config(folder)}, weights{folder}, model{config, weights} {}

    decoder::model_config config;
    decoder::checkpoint weights;
    decoder::llama model;
};

struct outcome {
    std::vector<int> tokens;
    std::vector<float> prompt_logits; ///< of every token of the prompt
    std::vector<float> step_logits;   ///< what each token was chosen from
};

/// Feeds the prompt in chunks and then `steps` − 1 of the `steps` tokens chosen.
inline outcome run_greedily(loaded& with, decoder::kv_cache& cache, std::span<const int> prompt,
                            std::size_t steps, std::size_t chunk, decoder::thread_pool& threads) {
    const std::size_t vocabulary = with.config.vocabulary;
    outcome out;
    out.prompt_logits.resize(prompt.size() * vocabulary);
    for (std::size_t done = 0; done < prompt.size(); done += chunk) {
        const auto part = prompt.subspan(done, std::min(chunk, prompt.size() - done));
        const auto logits = std::span{out.prompt_logits}.subspan(done * vocabulary, part.size() * vocabulary);
        vtensor::throw_if_failed(with.model.try_step(cache, part, logits, threads));
    }
    std::vector<float> logits(out.prompt_logits.end() - static_cast<std::ptrdiff_t>(vocabulary),
                              out.prompt_logits.end());
    for (std::size_t step = 0; step < steps; ++step) {
        out.step_logits.insert(out.step_logits.end(), logits.begin(), logits.end());
        out.tokens.push_back(
            static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
        if (step + 1 < steps)
            vtensor::throw_if_failed(
                with.model.try_step(cache, std::span{out.tokens}.last(1), logits, threads));
    }
    return out;
}

} // namespace decoder_test
