// SPDX-License-Identifier: Apache-2.0
#include <support/catch.hpp>

#include "io/file.hpp"
#include "support/vectors.hpp"
#include "text/tokenizer.hpp"
#include "text/utf8.hpp"

#include <nlohmann/json.hpp>

using namespace decoder;
using decoder_test::vectors;

TEST_CASE("Byte-level BPE gives the tokens of Hugging Face tokenizers") {
    const std::string folder = GENERATE("tokenizer_gpt2", "tokenizer_llama3");
    const auto path = vectors() / folder;
    const auto tokenizer = parse_tokenizer(read_text(path / "tokenizer.json", 1U << 24), "tokenizer.json");
    const auto cases = nlohmann::json::parse(read_text(path / "cases.json", 1U << 24));
    REQUIRE(cases.size() > 40);
    for (const auto& example : cases) {
        const auto text = example["text"].get<std::string>();
        CAPTURE(folder, text);
        CHECK(tokenizer->encode(text) == example["ids_with_special"].get<std::vector<int>>());
    }
}
