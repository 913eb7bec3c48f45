// SPDX-License-Identifier: Apache-2.0
//
// What the program makes, as a user meets it: tokens, the table, the JSON.
#include <support/catch.hpp>

#include "support/program.hpp"
#include "support/temporary.hpp"
#include "support/vectors.hpp"

#include <vtensor/backends/cuda/driver.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using decoder_test::byte_model;
using decoder_test::content_of;
using decoder_test::damaged_model;
using decoder_test::decode;
using decoder_test::finished;
using decoder_test::line_of;
using decoder_test::read_expected;
using decoder_test::temporary_directory;
using decoder_test::vectors;
using decoder_test::with_model;
using decoder_test::words;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

/// The prompt of the vectors as a file of bytes, and the word that names it.
std::string write_prompt(const temporary_directory& directory) {
    std::string bytes;
    for (const auto token : read_expected("untied_llama3").prompt)
        bytes.push_back(static_cast<char>(token));
    std::string word = "@";
    return word.append(directory.write("prompt", bytes).string());
}

} // namespace

TEST_CASE("The program generates the tokens that transformers does, and its JSON says so") {
    const temporary_directory directory;
    const auto figures_file = directory.path() / "figures.json";
    const auto truth = read_expected("untied_llama3");
    const auto growth = GENERATE(as<std::string>{}, "exact", "fixed", "geometric", "look-ahead");
    const finished run =
        decode({"--model", byte_model().string(), "--prompt", write_prompt(directory), "--max-tokens", "32",
                "--kv-type", "f32", "--growth", growth, "--prefill-chunk", "10", "--threads", "2",
                "--page-bytes", "4KiB", "--json", figures_file.string()});
    CAPTURE(growth, run.err);
    REQUIRE(run.code == 0);
    CHECK(run.err.empty());

    const json figures = json::parse(content_of(figures_file));
    CHECK(figures["tokens"].get<std::vector<int>>() ==
          std::vector<int>(truth.greedy.begin(), truth.greedy.end()));
    CHECK(figures["generated_tokens"] == 32);
    CHECK(figures["stopped_by"] == "max_tokens");
    CHECK(figures["prompt_tokens"] == truth.prompt.size());
    CHECK(run.out.starts_with(figures["text"].get<std::string>() + "\n\n"));

    const json& cache = figures["kv_cache"];
    constexpr std::size_t token_bytes = 2 * 3 * 2 * 24 * 4; // K and V, layers, heads, width, float32
    const std::size_t rows = truth.prompt.size() + 31;
    CHECK(cache["tokens"] == rows);
    CHECK(cache["token_bytes"] == token_bytes);
    CHECK(cache["used_bytes"] == rows * token_bytes);
    CHECK(cache["mapped_bytes"] == cache["kernel_bytes"]);
    CHECK(cache["mapped_bytes"] >= rows * token_bytes);
    CHECK(cache["peak_bytes"] >= cache["mapped_bytes"]);
    CHECK(cache["reserved_bytes"] >= 512 * token_bytes);
    CHECK(cache["maximum_length_bytes"] == 512 * token_bytes);
    CHECK(cache["blocks_of_16_bytes"] == (rows + 15) / 16 * 16 * token_bytes);
    CHECK(figures["decode_tokens_per_second"] > 0);
    CHECK(figures["prefill_tokens_per_second"] > 0);
}

TEST_CASE("With the cache on a simulated device the program generates the same tokens") {
    const temporary_directory directory;
    const auto figures_file = directory.path() / "figures.json";
    const auto truth = read_expected("untied_llama3");
    const auto growth = GENERATE(as<std::string>{}, "exact", "fixed", "geometric", "look-ahead");
    const auto page = GENERATE(as<std::string>{}, "2MiB", "4MiB", "64MiB");
    const finished run =
        decode({"--model", byte_model().string(), "--prompt", write_prompt(directory), "--max-tokens", "32",
                "--backend", "cuda-sim", "--kv-type", "f32", "--growth", growth, "--prefill-chunk", "10",
                "--page-bytes", page, "--json", figures_file.string()});
    CAPTURE(growth, page, run.err);
    REQUIRE(run.code == 0);
    const json figures = json::parse(content_of(figures_file));
    CHECK(figures["tokens"].get<std::vector<int>>() ==
          std::vector<int>(truth.greedy.begin(), truth.greedy.end()));
    CHECK(figures["settings"]["backend"] == "cuda-sim");
    const json& cache = figures["kv_cache"];
    CHECK(cache["mapped_bytes"] >= 6 * figures["settings"]["page_bytes"].get<std::size_t>());
    CHECK(cache["driver_bytes"] >= cache["mapped_bytes"]); // a policy may keep free chunks
    CHECK(cache["driver_bytes"] <= cache["peak_bytes"]);
    CHECK(!cache.contains("kernel_bytes"));
    for (const char* const says : {"physical, driver", "simulated", "backend cuda-sim: CUDA driver",
                                   "Simulated device", "granularity: 2 MiB", "virtual memory: on"})
        CHECK_THAT(run.out, ContainsSubstring(says));
    CHECK(run.out.find("physical, kernel") == std::string::npos);
}

TEST_CASE("A device that is there is used, and one that is not is one line and exit code 2") {
    const temporary_directory directory;
    const words arguments{"--model",      byte_model().string(),
                          "--prompt",     write_prompt(directory),
                          "--backend",    "cuda",
                          "--max-tokens", "32",
                          "--kv-type",    "f32",
                          "--json",       (directory.path() / "figures.json").string()};
    const auto loaded = vtensor::load_cuda_driver();
    const finished run = decode(arguments);
    CAPTURE(run.err);
    if (loaded) {
        const auto truth = read_expected("untied_llama3");
        REQUIRE(run.code == 0);
        CHECK(json::parse(content_of(directory.path() / "figures.json"))["tokens"].get<std::vector<int>>() ==
              std::vector<int>(truth.greedy.begin(), truth.greedy.end()));
        CHECK_THAT(run.out, ContainsSubstring("backend cuda: CUDA driver"));
    } else {
        CHECK(run.code == 2);
        CHECK(run.out.empty());
        CHECK_FALSE(loaded.reason.empty());
        CHECK_THAT(line_of(run), ContainsSubstring(loaded.reason));
        CHECK_FALSE(fs::exists(directory.path() / "figures.json"));
    }
}

TEST_CASE("The table names every figure and its columns line up") {
    const finished run = decode(with_model(byte_model(), {"--max-tokens", "20"}));
    REQUIRE(run.code == 0);
    const auto table = run.out.substr(run.out.rfind("\nprefill ") + 1);
    for (const char* const name :
         {"prefill", "decode", "virtual, reserved", "physical, mapped", "physical, kernel", "physical, peak",
          "maximum length", "16-token blocks", "backend host: host memory"})
        CHECK_THAT(table, ContainsSubstring(name));
    CHECK_THAT(table, ContainsSubstring("tokens/s"));
}

TEST_CASE("A seed repeats a draw, and text is drawn among bytes without breaking characters") {
    const words drawn{"--temperature", "1", "--top-p", "0.9", "--max-tokens", "60", "--seed"};
    const auto text = [&](const std::string& seed) {
        auto arguments = drawn;
        arguments.push_back(seed);
        const finished run = decode(with_model(byte_model(), arguments));
        CHECK(run.code == 0);
        return run.out.substr(0, run.out.rfind("\nprefill "));
    };
    CHECK(text("1") == text("1"));
    CHECK(text("1") != text("2"));
    CHECK_NOTHROW(json(text("3")).dump()); // which refuses invalid UTF-8
}

TEST_CASE("A file of figures appears whole or not at all") {
    const temporary_directory directory;
    const auto file = directory.path() / "figures.json";
    directory.write("figures.json", "old");
    const damaged_model broken;
    broken.change_config("hidden_size", 96);
    CHECK(decode(with_model(broken.directory.path(), {"--json", file.string()})).code == 2);
    CHECK(content_of(file) == "old");
    CHECK(std::distance(fs::directory_iterator{directory.path()}, {}) == 1);
    CHECK(decode(with_model(byte_model(), {"--max-tokens", "2", "--json", file.string()})).code == 0);
    CHECK(json::accept(content_of(file)));
    CHECK(std::distance(fs::directory_iterator{directory.path()}, {}) == 1);
}

TEST_CASE("Output that nobody can take is an error, not a success") {
    const finished run = decode(with_model(byte_model(), {"--max-tokens", "2"}), "/dev/full");
    CHECK(run.code == 2);
    CHECK_THAT(line_of(run), ContainsSubstring("standard output"));
}

TEST_CASE("Huge pages that the machine does not grant are no error, and the table says why") {
    const finished run = decode(with_model(byte_model(), {"--max-tokens", "2", "--huge-pages"}));
    CHECK(run.code == 0);
    CHECK_THAT(run.out, ContainsSubstring("\nhuge pages"));
    CHECK_THAT(run.out, ContainsSubstring("pages of 2 MiB"));
}

TEST_CASE("Help and version are answers, and a repeated option takes the last value") {
    CHECK(decode({"--help"}).code == 0);
    CHECK_THAT(decode({"--help"}).out, ContainsSubstring("--kv-limit"));
    CHECK_THAT(decode({"--version"}).out, ContainsSubstring("vtensor-decoder"));
    CHECK(decode(with_model("/nonexistent", {"--model", byte_model().string(), "--max-tokens", "1"})).code ==
          0);
}
