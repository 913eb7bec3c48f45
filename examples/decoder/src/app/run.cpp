// SPDX-License-Identifier: Apache-2.0
#include "app/run.hpp"

#include "app/generate.hpp"
#include "app/kv_memory.hpp"
#include "app/output_file.hpp"
#include "app/report.hpp"
#include "io/checkpoint.hpp"
#include "io/input_error.hpp"
#include "io/model_config.hpp"
#include "model/llama.hpp"
#include "text/tokenizer.hpp"
#include "text/utf8.hpp"

#include <algorithm>
#include <string>

namespace decoder {

namespace {

constexpr std::size_t usual_tokens = 256;
constexpr std::size_t rows_a_page = 64;
constexpr vtensor::bytes largest_page{std::size_t{1} << 40};

std::vector<int> encode_prompt(const tokenizer& words, const std::string& prompt,
                               const model_config& config) {
    auto tokens = words.encode(prompt);
    if (tokens.empty())
        refuse("the prompt is empty; give --prompt a text");
    const auto largest = *std::max_element(tokens.begin(), tokens.end());
    if (static_cast<std::size_t>(largest) >= config.vocabulary)
        refuse("the tokenizer gives token " + std::to_string(largest) + " and the model has only " +
               std::to_string(config.vocabulary) + "; tokenizer.json and config.json do not belong together");
    if (tokens.size() >= config.context)
        refuse("the prompt has " + std::to_string(tokens.size()) + " tokens and the model's context is " +
               std::to_string(config.context) + "; shorten the prompt");
    return tokens;
}

std::size_t tokens_to_generate(const settings& chosen, std::size_t prompt, const model_config& config) {
    const std::size_t room = config.context - prompt;
    if (!chosen.max_tokens)
        return std::min(usual_tokens, room);
    if (*chosen.max_tokens > room)
        refuse("the prompt has " + std::to_string(prompt) + " tokens and the model's context is " +
               std::to_string(config.context) + "; lower --max-tokens to " + std::to_string(room) +
               " or shorten the prompt");
    return *chosen.max_tokens;
}

/// The page the user asked for, or one that holds 64 tokens of a layer; of a head where each has its own.
vtensor::bytes choose_page(const settings& chosen, const kv_shape& shape, vtensor::bytes granularity) {
    const kv_options& cache = chosen.cache;
    const std::size_t heads = chosen.evict && chosen.layout == kv_layout::per_head ? 1 : shape.kv_heads;
    if (cache.page == vtensor::bytes{0})
        return vtensor::round_up(vtensor::bytes{rows_a_page * heads * shape.head_dim * size_of(cache.type)},
                                 granularity);
    if (cache.page % granularity != vtensor::bytes{0} || cache.page > largest_page)
        refuse("--page-bytes " + std::to_string(cache.page.count()) + " does not fit; give a multiple of " +
               std::to_string(granularity.count()) + " bytes up to 1 TiB");
    return cache.page;
}

void check_limit(const kv_options& cache, const kv_shape& shape, std::size_t rows) {
    const auto needed = memory_for(shape, cache.type, cache.page, rows);
    if (cache.limit != vtensor::bytes{0} && needed > cache.limit)
        refuse("the KV cache of " + std::to_string(rows) + " tokens needs " + std::to_string(needed.count()) +
               " bytes and --kv-limit is " + std::to_string(cache.limit.count()) +
               "; raise it, or lower --max-tokens or --page-bytes");
}

std::unique_ptr<kv_cache> make_cache(kv_memory& memory, const kv_shape& shape, const settings& chosen,
                                     const llama& model) {
    if (!chosen.evict)
        return memory.make_cache(shape, chosen.cache);
    return memory.make_evicting_cache(shape, chosen.cache,
                                      {.method = make_eviction_method(*chosen.evict, chosen.keep),
                                       .defrag = chosen.defrag,
                                       .layout = chosen.layout,
                                       .query_heads = model.config().heads,
                                       .output_weights = model.output_weights()});
}

/// Shows tokens as they come.
class text_stream {
  public:
    text_stream(const tokenizer& words, std::ostream& out) : words_{words}, out_{out} {}

    void operator()(int token) { show(whole_.push(words_.bytes_of_token(token))); }
    void finish() {
        show(whole_.finish());
        out_ << "\n" << std::flush;
    }
    [[nodiscard]] const std::string& text() const noexcept { return text_; }

  private:
    void show(const std::string& characters) {
        text_ += characters;
        out_ << characters << std::flush;
    }

    const tokenizer& words_;
    std::ostream& out_;
    utf8_stream whole_;
    std::string text_;
};

/// A failure in the middle ends the line, so that what is said about it stands alone.
generation generate_text(llama& model, kv_cache& cache, const generation_request& request,
                         thread_pool& threads, text_stream& stream) {
    try {
        auto result = generate(model, cache, request, threads, std::ref(stream));
        stream.finish();
        return result;
    } catch (...) {
        if (!stream.text().empty())
            stream.finish();
        throw;
    }
}

} // namespace

void run(const settings& given, std::ostream& out) {
    settings chosen = given;
    const model_config config = read_config(chosen.model);
    const auto words = load_tokenizer(chosen.model, config);
    generation_request request{encode_prompt(*words, chosen.prompt, config), 1, chosen.prefill_chunk,
                               chosen.how};
    request.max_tokens = tokens_to_generate(chosen, request.prompt.size(), config);

    const checkpoint weights{chosen.model};
    llama model{config, weights};
    const auto memory = open_memory(chosen.memory, chosen.huge_pages);
    const kv_shape shape = model.cache_shape();
    chosen.cache.page = choose_page(chosen, shape, memory->granularity());
    if (!chosen.evict) // what a cache that evicts will hold is not known before
        check_limit(chosen.cache, shape, request.prompt.size() + request.max_tokens - 1);
    std::optional<output_file> json;
    if (chosen.json)
        json.emplace(*chosen.json);

    const auto cache = make_cache(*memory, shape, chosen, model);
    thread_pool threads{chosen.threads};
    text_stream stream{*words, out};
    run_report report;
    report.result = generate_text(model, *cache, request, threads, stream);

    report.chosen = chosen;
    report.cache = cache->figures();
    report.memory = memory->facts();
    report.prompt_tokens = request.prompt.size();
    report.context = config.context;
    report.weight_bytes = weights.weight_bytes();
    out << "\n" << to_table(report) << std::flush;
    if (json)
        json->finish(to_json(report, stream.text()));
    if (!out)
        refuse("cannot write to the standard output; check where it leads to");
}

} // namespace decoder
