// SPDX-License-Identifier: Apache-2.0
#include <support/catch.hpp>

#include "io/file.hpp"
#include "support/refusal.hpp"
#include "support/vectors.hpp"
#include "text/tokenizer.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <utility>
#include <vector>

using namespace decoder;
using Catch::Matchers::ContainsSubstring;
using decoder_test::is_one_line;
using decoder_test::refusal_of;
using decoder_test::vectors;
using nlohmann::json;

namespace {

using ids = std::vector<int>;

/// A vocabulary small enough to see through; the steps and added tokens are what a test is about.
json small_tokenizer(const std::vector<json>& steps, const json& added = json::array()) {
    json file = json::parse(R"({"normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": []},
        "model": {"type": "BPE", "ignore_merges": false, "byte_fallback": false, "unk_token": null,
            "vocab": {"a": 0, "b": 1, "1": 2, "2": 3, "Ġ": 4, "ab": 5, "12": 6, "Ġa": 7, "Ġ1": 8, "Ċ": 10},
            "merges": [["a", "b"], ["1", "2"], ["Ġ", "a"], ["Ġ", "1"]]}})");
    file["pre_tokenizer"]["pretokenizers"] = steps;
    file["added_tokens"] = added;
    return file;
}

json byte_level() {
    return json::parse(
        R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})");
}

json digits(bool single) { return {{"type", "Digits"}, {"individual_digits", single}}; }

ids encode(const json& file, const std::string& text) {
    return parse_tokenizer(file.dump(), "tokenizer.json")->encode(text);
}

std::string refusal(const json& file) {
    return refusal_of([&] { (void)parse_tokenizer(file.dump(), "tokenizer.json"); });
}

} // namespace

TEST_CASE("Byte-level BPE gives the tokens of Hugging Face tokenizers, and its tokens give the text back") {
    const std::string folder = GENERATE("tokenizer_gpt2", "tokenizer_llama3");
    const auto path = vectors() / folder;
    const auto tokenizer = parse_tokenizer(read_text(path / "tokenizer.json", 1U << 24), "tokenizer.json");
    const auto cases = json::parse(read_text(path / "cases.json", 1U << 24));
    REQUIRE(cases.size() > 40);
    for (const auto& example : cases) {
        auto text = example["text"].get<std::string>();
        CAPTURE(folder, text);
        const ids tokens = tokenizer->encode(text);
        CHECK(tokens == example["ids_with_special"].get<ids>());
        std::string shown;
        for (const int token : tokens)
            shown += tokenizer->bytes_of_token(token);
        for (const std::string special :
             {"<|endoftext|>", "<|begin_of_text|>"}) // special tokens show nothing
            if (folder != (special == "<|endoftext|>" ? "tokenizer_llama3" : "tokenizer_gpt2"))
                for (auto at = text.find(special); at != std::string::npos; at = text.find(special))
                    text.erase(at, special.size());
        CHECK(shown == text);
    }
}

// The numbers below are what version 0.23.3 of the tokenizers package gives for the same files.

TEST_CASE("Digit splitting, prefix spaces and a missing expression cut as Hugging Face tokenizers do") {
    auto prefix = byte_level();
    prefix["add_prefix_space"] = true;
    auto uncut = byte_level();
    uncut["use_regex"] = false;
    CHECK(encode(small_tokenizer({byte_level()}), "ab 12") == ids{5, 4, 6});
    CHECK(encode(small_tokenizer({digits(true), byte_level()}), "ab 12") == ids{5, 4, 2, 3});
    CHECK(encode(small_tokenizer({digits(false), byte_level()}), "ab 12a") == ids{5, 4, 6, 0});
    CHECK(encode(small_tokenizer({prefix}), "ab a") == ids{4, 5, 7});
    CHECK(encode(small_tokenizer({uncut}), "a 1 a") == ids{0, 8, 7});
    CHECK(encode(small_tokenizer({digits(true), prefix}), "a12") == ids{7, 8, 4, 3});
}

TEST_CASE("Added tokens are found longest first and take the blanks beside them where they are told to") {
    const auto file = small_tokenizer({byte_level()}, json::parse(R"([
        {"id": 20, "content": "<x>", "special": true, "lstrip": true},
        {"id": 21, "content": "<y>", "special": true, "rstrip": true},
        {"id": 22, "content": "<x>1", "special": false}])"));
    CHECK(encode(file, "a <x> a") == ids{0, 20, 7});
    CHECK(encode(file, "a <y> \n a") == ids{0, 4, 21, 0});
    CHECK(encode(file, " \n <x>") == ids{20});
    CHECK(encode(file, "<x>12") == ids{22, 3});
    CHECK(encode(file, "<x><y> <x>") == ids{20, 21, 20});
    CHECK(encode(file, "a<x>1") == ids{0, 22});
    const auto tokenizer = parse_tokenizer(file.dump(), "tokenizer.json");
    CHECK(tokenizer->bytes_of_token(20).empty());
    CHECK(tokenizer->bytes_of_token(22) == "<x>1");
    CHECK(tokenizer->bytes_of_token(7) == " a");
    CHECK(tokenizer->bytes_of_token(999).empty());
    CHECK(tokenizer->bytes_of_token(-1).empty());
}

TEST_CASE("A byte without a token is refused, or becomes the unknown token where there is one") {
    auto file = small_tokenizer({byte_level()});
    CHECK_THAT(refusal_of([&] { (void)encode(file, "az"); }), ContainsSubstring("byte 122"));
    file["model"]["unk_token"] = "2";
    CHECK(encode(file, "azza") == ids{0, 3, 3, 0});
}

TEST_CASE("Merging a long word takes time in proportion to its length") {
    const auto tokens = encode(small_tokenizer({byte_level()}), std::string(1U << 20, 'a'));
    CHECK(tokens.size() == 1U << 20);
}

TEST_CASE(
    "A tokenizer that is not byte-level BPE, or not sound, is refused with one line that names the trouble") {
    struct broken {
        const char* path;
        const char* value;
        const char* says;
    };
    const std::vector<broken> all{
        {"/normalizer", R"({"type": "NFC"})", "normalizer"},
        {"/model", "null", "BPE"},
        {"/model/type", R"("Unigram")", "BPE"},
        {"/model/type", "5", "type"},
        {"/model/byte_fallback", "true", "SentencePiece"},
        {"/model/dropout", "0.1", "dropout"},
        {"/model/end_of_word_suffix", R"("</w>")", "end_of_word_suffix"},
        {"/model/ignore_merges", "1", "ignore_merges"},
        {"/model/vocab", "[]", "vocabulary"},
        {"/model/vocab", "{}", "vocabulary"},
        {"/model/vocab/a", "-1", "out of range"},
        {"/model/vocab/a", "1e3", "out of range"},
        {"/model/vocab/a", "4294967296", "out of range"},
        {"/model/merges", "{}", "merges"},
        {"/model/merges", R"(["ab"])", "no pair"},
        {"/model/merges", R"([["a"]])", "no pair"},
        {"/model/merges", R"([["a", 1]])", "no pair"},
        {"/model/merges", R"([["b", "a"]])", "not tokens"},
        {"/model/merges", R"(["中 a"])", "not tokens"},
        {"/pre_tokenizer", "null", "no pre-tokenizer"},
        {"/pre_tokenizer", R"({"type": "Whitespace"})", "Whitespace"},
        {"/pre_tokenizer/pretokenizers", "[]", "no ByteLevel"},
        {"/pre_tokenizer/pretokenizers", "5", "pretokenizers"},
        {"/pre_tokenizer/pretokenizers",
         R"([{"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated"}])", "not known"},
        {"/pre_tokenizer/pretokenizers", R"([{"type": "ByteLevel"}, {"type": "Digits"}])",
         "behind ByteLevel"},
        {"/post_processor", R"({"type": "BertProcessing"})", "BertProcessing"},
        {"/post_processor", R"({"type": "TemplateProcessing", "single": [5]})", "unknown part"},
        {"/post_processor", R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}]})",
         "unknown special token"},
        {"/added_tokens", "5", "added_tokens"},
        {"/added_tokens", R"([{"content": "x"}])", "without number"},
        {"/added_tokens", R"([{"id": 1, "content": ""}])", "without number"},
        {"/added_tokens", R"([{"id": 1, "content": "x", "single_word": true}])", "single word"},
    };
    for (const broken& each : all) {
        auto file = small_tokenizer({byte_level()});
        REQUIRE(refusal(file).empty());
        file[json::json_pointer{each.path}] = json::parse(each.value);
        const std::string text = refusal(file);
        CAPTURE(each.path, each.value, text);
        CHECK(is_one_line(text));
        CHECK_THAT(text, ContainsSubstring(each.says));
    }
}

TEST_CASE("Raw bytes are their own tokens") {
    const auto tokenizer = make_byte_tokenizer();
    std::string all;
    for (int byte = 0; byte < 256; ++byte)
        all.push_back(static_cast<char>(byte));
    const ids tokens = tokenizer->encode(all);
    REQUIRE(tokens.size() == 256);
    for (int byte = 0; byte < 256; ++byte) {
        CHECK(tokens[static_cast<std::size_t>(byte)] == byte);
        CHECK(tokenizer->bytes_of_token(byte) == std::string(1, static_cast<char>(byte)));
    }
    CHECK(make_byte_tokenizer(7)->encode("a") == ids{7, 97});
}
