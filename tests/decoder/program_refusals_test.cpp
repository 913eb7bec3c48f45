// SPDX-License-Identifier: Apache-2.0
//
// What the program refuses, as a user meets it: exit codes, one line on stderr and nothing half said.
#include <support/catch.hpp>

#include "support/program.hpp"
#include "support/temporary.hpp"
#include "support/vectors.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

using decoder_test::byte_model;
using decoder_test::check_refused;
using decoder_test::content_of;
using decoder_test::damaged_model;
using decoder_test::decode;
using decoder_test::temporary_directory;
using decoder_test::vectors;
using decoder_test::with_model;
using decoder_test::words;
using nlohmann::json;
namespace fs = std::filesystem;

TEST_CASE("A command line that makes no sense is refused with one line and exit code 2") {
    check_refused({}, "--model is required");
    check_refused({"--model", byte_model().string()}, "--prompt is required");
    const std::vector<std::pair<words, std::string>> cases{
        {{"--temperature", "-1"}, "--temperature"},
        {{"--temperature", "hot"}, "--temperature"},
        {{"--temperature", "nan"}, "--temperature"},
        {{"--top-p", "0"}, "--top-p"},
        {{"--top-p", "1.5"}, "--top-p"},
        {{"--seed", "-1"}, "--seed"},
        {{"--threads", "0"}, "--threads"},
        {{"--threads", "100000"}, "--threads"},
        {{"--max-tokens", "0"}, "--max-tokens"},
        {{"--max-tokens", "-3"}, "--max-tokens"},
        {{"--max-tokens", "99999999999999999999"}, "--max-tokens"},
        {{"--backend", "rocm"}, "--backend"},
        {{"--backend", "cuda-sim", "--huge-pages"}, "--huge-pages"},
        {{"--backend", "cuda-sim", "--page-bytes", "4096"}, "multiple of 2097152"},
        {{"--backend", "cuda-sim", "--page-bytes", "1TiB"}, "--page-bytes"},
        {{"--growth", "linear"}, "--growth"},
        {{"--kv-type", "f8"}, "--kv-type"},
        {{"--page-bytes", "5000"}, "multiple of 4096"},
        {{"--page-bytes", "0"}, "--page-bytes"},
        {{"--page-bytes", "1152921504606846976"}, "--page-bytes"},
        {{"--page-bytes", "lots"}, "--page-bytes"},
        {{"--kv-limit", "0"}, "--kv-limit"},
        {{"--kv-limit", "-4"}, "--kv-limit"},
        {{"--prefill-chunk", "0"}, "--prefill-chunk"},
        {{"--prompt", "@/nonexistent/prompt"}, "/nonexistent/prompt"},
        {{"--prompt", "@/"}, "not a regular file"},
        {{"--prompt", ""}, "prompt is empty"},
        {{"--json", "/nonexistent/figures.json"}, "/nonexistent/figures.json"},
        {{"--json", ""}, "--json"},
        {{"--speed", "11"}, "--speed"},
        {{"word"}, "word"},
    };
    for (const auto& [more, says] : cases)
        check_refused(with_model(byte_model(), more), says);
}

TEST_CASE("A request that cannot fit is refused before any text is shown") {
    check_refused(with_model(byte_model(), {"--max-tokens", "497"}), "lower --max-tokens to 496");
    check_refused(with_model(byte_model(), {"--prompt", std::string(512, 'a')}),
                  "512 tokens and the model's context");
    check_refused(with_model(byte_model(), {"--kv-limit", "4096"}), "--kv-limit is 4096");
    // 6 tensors of 48 elements a row, float16: 96 bytes, so that 100 tokens need 3 pages of 4,096 a tensor.
    const words sizes{"--max-tokens", "85", "--page-bytes", "4096", "--kv-limit"};
    auto enough = sizes;
    enough.push_back(std::to_string(6 * 3 * 4096));
    auto short_by_one = sizes;
    short_by_one.push_back(std::to_string(6 * 3 * 4096 - 1));
    check_refused(with_model(byte_model(), short_by_one), "needs 73728 bytes");
    for (const char* const growth : {"exact", "fixed", "geometric", "look-ahead"}) {
        auto with_growth = enough;
        with_growth.insert(with_growth.end(), {"--growth", growth});
        CHECK(decode(with_model(byte_model(), with_growth)).code == 0);
    }
}

TEST_CASE("A model that cannot be used is refused with one line and exit code 2") {
    check_refused(with_model("/nonexistent", {}), "/nonexistent");
    check_refused(with_model(byte_model() / "config.json", {}), "not a directory");
    check_refused(with_model(vectors() / "tied", {}), "no tokenizer.json");
    const temporary_directory empty;
    check_refused(with_model(empty.path(), {}), "config.json");

    const damaged_model no_weights;
    fs::remove(no_weights.directory.path() / "model.safetensors");
    check_refused(with_model(no_weights.directory.path(), {}), "neither model.safetensors");

    const damaged_model cut;
    fs::resize_file(cut.directory.path() / "model.safetensors", 300'000);
    check_refused(with_model(cut.directory.path(), {}), "cut short");

    const damaged_model huge_header;
    huge_header.directory.write("model.safetensors", std::string(64, '\xFF'));
    check_refused(with_model(huge_header.directory.path(), {}), "announces a header");

    const damaged_model no_file;
    fs::remove(no_file.directory.path() / "model.safetensors");
    fs::create_directory(no_file.directory.path() / "model.safetensors");
    check_refused(with_model(no_file.directory.path(), {}), "not a regular file");

    const damaged_model other;
    other.change_config("architectures", {"GPT2LMHeadModel"});
    check_refused(with_model(other.directory.path(), {}), "GPT2LMHeadModel");
    other.change_config("hidden_size", 96);
    check_refused(with_model(other.directory.path(), {}), "has the shape");
    other.change_config("num_hidden_layers", 4);
    check_refused(with_model(other.directory.path(), {}), "model.layers.3.");
    other.change_config("tie_word_embeddings", "no");
    check_refused(with_model(other.directory.path(), {}), "tie_word_embeddings");

    const damaged_model broken_tokenizer;
    broken_tokenizer.directory.write("tokenizer.json", "{}");
    check_refused(with_model(broken_tokenizer.directory.path(), {}), "tokenizer.json");
}

TEST_CASE("Weights that are not numbers are refused, not sampled from") {
    const damaged_model broken;
    const auto file = broken.directory.path() / "model.safetensors";
    std::string bytes = content_of(file);
    std::fill(bytes.end() - 40'000, bytes.end(), '\xFF');
    broken.directory.write("model.safetensors", bytes);
    check_refused(with_model(broken.directory.path(), {}), "not finite");
}
