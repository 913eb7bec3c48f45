// SPDX-License-Identifier: Apache-2.0
#include "app/run.hpp"

#include "app/generate.hpp"
#include "app/kv_memory.hpp"
#include "app/output_file.hpp"
#include "app/report.hpp"
#include "app/request.hpp"
#include "app/run_batch.hpp"
#include "io/checkpoint.hpp"
#include "io/input_error.hpp"
#include "io/model_config.hpp"
#include "model/llama.hpp"
#include "text/tokenizer.hpp"
#include "text/utf8.hpp"

#include <string>

namespace decoder {

namespace {

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
    if (given.batch)
        return run_batch(given, out);
    settings chosen = given;
    const model_config config = read_config(chosen.model);
    const auto words = load_tokenizer(chosen.model, config);
    generation_request request{encode_prompt(*words, chosen.prompt, config), 1, chosen.prefill_chunk,
                               chosen.how};
    request.max_tokens = tokens_to_generate(chosen.max_tokens, request.prompt.size(), config);

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
