// SPDX-License-Identifier: Apache-2.0
//
// Any text as config.json and as tokenizer.json: refused with one sentence, or sound. A tokenizer that is
// accepted encodes a text without crashing, and what it encodes decodes to the same bytes unless it adds
// tokens of its own.
#include "io/input_error.hpp"
#include "io/model_config.hpp"
#include "model/rope.hpp"
#include "text/tokenizer.hpp"

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

void require(bool holds) {
    if (!holds)
        std::abort();
}

template <class Action>
void allow_refusal(Action action) {
    try {
        action();
    } catch (const decoder::input_error& refused) {
        const std::string sentence = refused.what();
        require(!sentence.empty() && sentence.find('\n') == std::string::npos);
    }
}

void try_config(std::string_view text) {
    const auto config = decoder::parse_config(text, "config.json");
    require(config.heads % config.kv_heads == 0 && config.head_dim % 2 == 0 && config.layers > 0);
    for (const float frequency : decoder::rope_frequencies(config))
        require(std::isfinite(frequency));
}

void try_tokenizer(std::string_view text) {
    const auto tokenizer = decoder::parse_tokenizer(text, "tokenizer.json");
    for (const std::string_view prompt : {"In the  beginning\n\n'tis 1234 ", "\xC3\xA9\xFF<|end|>"})
        for (const int token : tokenizer->encode(prompt))
            (void)tokenizer->bytes_of_token(token);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text{reinterpret_cast<const char*>(data), size};
    allow_refusal([&] { try_config(text); });
    allow_refusal([&] { try_tokenizer(text); });
    return 0;
}
