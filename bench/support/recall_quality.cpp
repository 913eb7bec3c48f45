// SPDX-License-Identifier: Apache-2.0
#include "recall_quality.hpp"

#include "eviction_methods.hpp"
#include "in_parts.hpp"
#include "ragged_llama.hpp"
#include "recall_task.hpp"

#include <algorithm>
#include <span>

namespace vtensor::bench {

namespace {

static_assert(recall::window == ragged_llama::window);

/// Asks the questions behind what is cached.
recall_answers ask(ragged_llama& model, ragged_cache& cache, const recall_sequence& sequence) {
    std::vector<int> tokens;
    for (const recall_question& question : sequence.questions)
        tokens.push_back(question.token);
    recall_answers answers;
    for (std::size_t layer = 0; layer < cache.layers(); ++layer)
        for (const ragged_head& head : cache.layer(layer)) {
            answers.rows += head.positions.size();
            answers.rows_before += sequence.prompt.size();
        }
    const auto logits = model.step(cache, tokens, static_cast<position_type>(sequence.prompt.size()));
    for (std::size_t index = 0; index < tokens.size(); ++index) {
        const auto own = logits.subspan(index * recall::vocabulary, recall::vocabulary);
        const auto best = std::max_element(own.begin(), own.end()) - own.begin();
        const recall_question& question = sequence.questions[index];
        tally& kind = question.token == recall::aggregate ? answers.aggregate
                      : question.asked_before             ? answers.seen
                                                          : answers.unseen;
        kind.add(best == question.answer);
    }
    return answers;
}

/// Every method and budget on some sequences.
recall_result measure(ragged_llama& model, std::span<const recall_sequence> sequences,
                      const std::vector<std::size_t>& budgets) {
    const auto methods = all_methods();
    recall_result result;
    result.answers.assign(methods.size(), std::vector<recall_answers>(budgets.size()));
    prompt_evidence evidence;
    eviction::kept_rows kept;
    for (const recall_sequence& sequence : sequences) {
        ragged_cache full = model.empty_cache();
        model.step(full, sequence.prompt, 0, &evidence);
        for (std::size_t method = 0; method < methods.size(); ++method)
            for (std::size_t budget = 0; budget < budgets.size(); ++budget) {
                methods[method].choose(evidence.layers(), recall::window + budgets[budget], kept);
                ragged_cache evicted = model.empty_cache();
                evicted.take(full, kept);
                result.answers[method][budget] += ask(model, evicted, sequence);
            }
        result.full += ask(model, full, sequence);
    }
    return result;
}

} // namespace

recall_result measure_recall(const std::filesystem::path& directory, std::uint32_t seed,
                             std::size_t sequences, const std::vector<std::size_t>& budgets,
                             std::size_t threads) {
    const auto config = decoder::read_config(directory);
    const decoder::checkpoint weights{directory};
    recall_task task{seed};
    std::vector<recall_sequence> all;
    for (std::size_t index = 0; index < sequences; ++index)
        all.push_back(task.next());
    const auto parts =
        in_parts<recall_result>(all.size(), threads, [&](std::size_t first, std::size_t count) {
            ragged_llama model{config, weights};
            return measure(model, std::span{all}.subspan(first, count), budgets);
        });
    recall_result total = parts.front();
    for (const recall_result& part : std::span{parts}.subspan(1)) {
        total.full += part.full;
        for (std::size_t method = 0; method < part.answers.size(); ++method)
            for (std::size_t budget = 0; budget < budgets.size(); ++budget)
                total.answers[method][budget] += part.answers[method][budget];
    }
    return total;
}

} // namespace vtensor::bench
