// SPDX-License-Identifier: Apache-2.0
#include "app/run_batch.hpp"

#include "app/batch_report.hpp"
#include "app/generate_batch.hpp"
#include "app/kv_memory.hpp"
#include "app/output_file.hpp"
#include "app/request.hpp"
#include "io/checkpoint.hpp"
#include "io/input_error.hpp"
#include "io/model_config.hpp"
#include "model/llama.hpp"
#include "text/tokenizer.hpp"
#include "text/utf8.hpp"

#include <algorithm>
#include <optional>
#include <string>

namespace decoder {

namespace {

batch_prompt encode(const settings& chosen, std::size_t index, const tokenizer& words,
                    const model_config& config) {
    try {
        batch_prompt prompt{.tokens = encode_prompt(words, (*chosen.batch)[index], config)};
        prompt.max_tokens = tokens_to_generate(chosen.max_tokens, prompt.tokens.size(), config);
        return prompt;
    } catch (const input_error& failure) {
        refuse("prompt " + std::to_string(index + 1) + " of the batch: " + failure.what());
    }
}

batch_request encode_all(const settings& chosen, const tokenizer& words, const model_config& config) {
    batch_request request{
        .prompts = {}, .samples = chosen.samples, .prefill_chunk = chosen.prefill_chunk, .how = chosen.how};
    for (std::size_t index = 0; index < chosen.batch->size(); ++index)
        request.prompts.push_back(encode(chosen, index, words, config));
    return request;
}

/// Rows of the longest sequence that there may be; the last token of it is never computed.
std::size_t most_rows(const batch_request& request) {
    std::size_t most = 0;
    for (const batch_prompt& prompt : request.prompts)
        most = std::max(most, prompt.tokens.size() + prompt.max_tokens - 1);
    return most;
}

std::string text_of(const tokenizer& words, const completion& from) {
    utf8_stream whole;
    std::string text;
    for (const int token : from.tokens)
        text += whole.push(words.bytes_of_token(token));
    return text + whole.finish();
}

void show(const batch_report& report, std::ostream& out) {
    for (std::size_t index = 0; index < report.texts.size(); ++index) {
        out << "[" << index / report.chosen.samples + 1;
        if (report.chosen.samples > 1)
            out << ", sample " << index % report.chosen.samples + 1;
        out << "]\n" << report.texts[index] << "\n\n";
    }
    out << to_table(report) << std::flush;
}

} // namespace

void run_batch(const settings& given, std::ostream& out) {
    settings chosen = given;
    const model_config config = read_config(chosen.model);
    const auto words = load_tokenizer(chosen.model, config);
    const batch_request request = encode_all(chosen, *words, config);

    const checkpoint weights{chosen.model};
    llama model{config, weights};
    const auto memory = open_memory(chosen.memory, chosen.huge_pages);
    const kv_shape shape = model.cache_shape();
    chosen.cache.page = choose_page(chosen, shape, memory->granularity());
    check_limit(chosen.cache, shape, most_rows(request));
    std::optional<output_file> json;
    if (chosen.json)
        json.emplace(*chosen.json);

    const auto sequences = memory->make_sequences(shape, chosen.cache);
    thread_pool threads{chosen.threads};
    batch_report report;
    report.result = generate_batch(model, *sequences, request, threads);

    report.chosen = chosen;
    report.memory = memory->facts();
    for (const completion& one : report.result.completions)
        report.texts.push_back(text_of(*words, one));
    show(report, out);
    if (json)
        json->finish(to_json(report));
    if (!out)
        refuse("cannot write to the standard output; check where it leads to");
}

} // namespace decoder
