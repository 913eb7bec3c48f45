// SPDX-License-Identifier: Apache-2.0
#include "app/request.hpp"

#include "io/input_error.hpp"

#include <algorithm>

namespace decoder {

namespace {

constexpr std::size_t usual_tokens = 256;
constexpr std::size_t rows_a_page = 64;
constexpr vtensor::bytes largest_page{std::size_t{1} << 40};

} // namespace

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

std::size_t tokens_to_generate(const std::optional<std::size_t>& most, std::size_t prompt,
                               const model_config& config) {
    const std::size_t room = config.context - prompt;
    if (!most)
        return std::min(usual_tokens, room);
    if (*most > room)
        refuse("the prompt has " + std::to_string(prompt) + " tokens and the model's context is " +
               std::to_string(config.context) + "; lower --max-tokens to " + std::to_string(room) +
               " or shorten the prompt");
    return *most;
}

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

} // namespace decoder
