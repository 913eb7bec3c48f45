// SPDX-License-Identifier: Apache-2.0
#include "text_quality.hpp"

#include "eviction_methods.hpp"
#include "in_parts.hpp"
#include "ragged_llama.hpp"

#include "io/file.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace vtensor::bench {

namespace {

/// Bits of `token`, given the logits before it.
double bits_of(std::span<const float> logits, int token) {
    const auto largest = static_cast<double>(*std::ranges::max_element(logits));
    double sum = 0;
    for (const float logit : logits)
        sum += std::exp(static_cast<double>(logit) - largest);
    return (std::log(sum) + largest - static_cast<double>(logits[static_cast<std::size_t>(token)])) /
           std::log(2.0);
}

/// Bits of `rest` behind the cache; `before` is the token in front of it, which is fed here too.
double bits_behind(ragged_llama& model, ragged_cache& cache, std::span<const int> rest, position_type first) {
    // The last token of the prompt has been fed; its successor is the first that is scored here.
    const auto logits = model.step(cache, rest, first);
    const std::size_t vocabulary = model.config().vocabulary;
    double sum = 0;
    for (std::size_t index = 0; index + 1 < rest.size(); ++index)
        sum += bits_of(logits.subspan(index * vocabulary, vocabulary), rest[index + 1]);
    return sum;
}

/// Sums of bits, as text_result has means.
text_result measure(ragged_llama& model, std::span<const int> text, const text_options& options,
                    std::span<const char* const> names, std::span<const double> shares) {
    const auto methods = methods_named(names);
    text_result sums;
    sums.bits.assign(methods.size(), std::vector<double>(shares.size()));
    prompt_evidence evidence;
    eviction::kept_rows kept;
    const std::size_t length = options.prompt + options.scored;
    const int opening = model.config().bos_token.value_or(0);
    for (std::size_t start = 0; start + length <= text.size(); start += length) {
        // The opening token takes the first row, so that the last byte of the prompt is fed behind the
        // eviction, as a decoder would feed it.
        std::vector<int> prompt{opening};
        prompt.insert(prompt.end(), text.begin() + static_cast<std::ptrdiff_t>(start),
                      text.begin() + static_cast<std::ptrdiff_t>(start + options.prompt - 1));
        const auto rest = text.subspan(start + options.prompt - 1, options.scored + 1);
        const auto first = static_cast<position_type>(options.prompt);
        ragged_cache full = model.empty_cache();
        model.step(full, prompt, 0, &evidence);
        for (std::size_t method = 0; method < methods.size(); ++method)
            for (std::size_t share = 0; share < shares.size(); ++share) {
                const auto rows =
                    static_cast<std::size_t>(shares[share] * static_cast<double>(prompt.size()));
                methods[method].choose(evidence.layers(), rows, kept);
                ragged_cache evicted = model.empty_cache();
                evicted.take(full, kept);
                sums.bits[method][share] += bits_behind(model, evicted, rest, first);
            }
        sums.full += bits_behind(model, full, rest, first);
        sums.scored += options.scored;
    }
    return sums;
}

} // namespace

text_result measure_text(const text_options& options, std::span<const char* const> methods,
                         std::span<const double> shares) {
    const auto config = decoder::read_config(options.model);
    const decoder::checkpoint weights{options.model};
    const std::string bytes = decoder::read_text(options.text, std::size_t{1} << 24);
    std::vector<int> text;
    for (const char byte : bytes)
        text.push_back(static_cast<unsigned char>(byte));
    const std::size_t length = options.prompt + options.scored;
    const std::size_t windows = std::min(options.windows, text.size() / length);
    if (windows == 0)
        throw std::runtime_error{options.text.string() + " is shorter than one window"};
    const auto parts =
        in_parts<text_result>(windows, options.threads, [&](std::size_t first, std::size_t count) {
            ragged_llama model{config, weights};
            return measure(model, std::span{text}.subspan(first * length, count * length), options, methods,
                           shares);
        });
    text_result total = parts.front();
    for (const text_result& part : std::span{parts}.subspan(1)) {
        total.full += part.full;
        total.scored += part.scored;
        for (std::size_t method = 0; method < methods.size(); ++method)
            for (std::size_t share = 0; share < shares.size(); ++share)
                total.bits[method][share] += part.bits[method][share];
    }
    const auto scored = static_cast<double>(total.scored);
    total.full /= scored;
    for (auto& row : total.bits)
        for (double& bits : row)
            bits /= scored;
    return total;
}

} // namespace vtensor::bench
