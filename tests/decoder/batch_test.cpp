// SPDX-License-Identifier: Apache-2.0
//
// Many prompts at once, as a user runs them: every text is the one that the prompt gets by itself, whatever
// is shared, mapped ahead or preempted meanwhile.
#include <support/catch.hpp>

#include "support/program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using decoder_test::byte_model;
using decoder_test::check_refused;
using decoder_test::content_of;
using decoder_test::decode;
using decoder_test::finished;
using decoder_test::line_of;
using decoder_test::temporary_directory;
using decoder_test::words;
using nlohmann::json;

namespace {

const std::string system_prompt =
    "You are a scribe. You continue what you are given, in the same words and the same spirit. "
    "You never stop before you are told to.\n";

/// Their lengths lie apart, and two begin alike.
const std::vector<std::string> prompts{
    "In the beginning", "And God said, Let there be light: and there was light.",
    "And God said, Let there be a firmament in the midst of the waters, and let it divide the waters.", "A",
    "The words of the Preacher, the son of David, king in Jerusalem."};
constexpr std::size_t most_tokens = 48;

/// K and V of 3 layers, rows of 2 heads × 24 elements of 2 bytes, pages of 4 KiB.
std::size_t needed_for(std::size_t rows) { return 6 * ((rows * 96 + 4095) / 4096) * 4096; }
/// The longest sequence there is.
std::size_t least_limit() { return needed_for(system_prompt.size() + prompts[2].size() + most_tokens - 1); }

json figures_of(words arguments) {
    const temporary_directory directory;
    const std::string file = (directory.path() / "run.json").string();
    arguments.insert(arguments.begin(), {"--model", byte_model().string(), "--page-bytes", "4096",
                                         "--max-tokens", std::to_string(most_tokens), "--json", file});
    const finished run = decode(arguments);
    CAPTURE(arguments, run.err);
    REQUIRE(run.code == 0);
    return json::parse(content_of(file));
}

json batch(words arguments) {
    const temporary_directory directory;
    std::string lines = "\n";
    for (const std::string& prompt : prompts)
        lines += prompt + "\r\n\n";
    arguments.insert(arguments.end(), {"--batch", directory.write("prompts", lines).string()});
    return figures_of(arguments);
}

using tokens = std::vector<int>;

/// What the prompts get one by one, in the order of the batch.
std::vector<tokens> one_by_one(const words& how, const std::string& before, std::uint64_t seed,
                               std::size_t samples = 1) {
    std::vector<tokens> all;
    for (const std::string& prompt : prompts) {
        for (std::size_t sample = 0; sample < samples; ++sample) {
            words arguments = how;
            arguments.insert(arguments.end(),
                             {"--prompt", before + prompt, "--seed", std::to_string(seed + sample)});
            all.push_back(figures_of(arguments)["tokens"].get<tokens>());
        }
    }
    return all;
}

std::vector<tokens> tokens_of(const json& run) {
    std::vector<tokens> all;
    for (const json& text : run["texts"])
        all.push_back(text["tokens"].get<tokens>());
    return all;
}

/// Texts with a token: the others end with the prefill.
std::size_t begun(const std::vector<tokens>& all) {
    return all.size() - static_cast<std::size_t>(std::count(all.begin(), all.end(), tokens{}));
}

const words drawn{"--temperature", "1", "--top-p", "0.95"};

} // namespace

TEST_CASE("A batch gives every prompt the text that it gets by itself") {
    for (const words& how : {words{}, drawn}) {
        const auto alone = one_by_one(how, "", 7);
        for (const std::string growth : {"exact", "look-ahead"}) {
            words arguments = how;
            arguments.insert(arguments.end(), {"--seed", "7", "--growth", growth, "--prefill-chunk", "20"});
            const json run = batch(arguments);
            CAPTURE(how, growth);
            CHECK(tokens_of(run) == alone);
            CHECK(run["sequences_at_once"] == begun(alone));
            CHECK(run["end"]["manager"]["preemptions"] == 0);
            CHECK(run["steps"] == most_tokens - 1); // of the longest, whose first token the prefill gives
            std::size_t fed = 0;
            for (const tokens& one : alone)
                fed += one.size() - (one.size() == most_tokens ? 1 : 0);
            CHECK(run["decode_tokens"] == fed);
        }
    }
}

TEST_CASE("A system prompt is computed once and is in memory once") {
    const auto alone = one_by_one(drawn, system_prompt, 3);
    words arguments = drawn;
    arguments.insert(arguments.end(), {"--seed", "3", "--system-prompt", system_prompt});
    const json run = batch(arguments);
    CHECK(tokens_of(run) == alone);

    std::size_t own = 0;
    for (const std::string& prompt : prompts)
        own += prompt.size();
    CHECK(run["prefill_tokens"].get<std::size_t>() <= system_prompt.size() + own);
    const json& busiest = run["busiest_step"]["manager"];
    const std::size_t whole_pages = system_prompt.size() * 96 / 4096;
    REQUIRE(whole_pages > 0);
    CHECK(busiest["shared_bytes"].get<std::size_t>() >= 6 * 4096 * whole_pages * (prompts.size() - 1));
    CHECK(busiest["physical_bytes"] == run["busiest_step"]["kernel_bytes"]);
    CHECK(run["end"]["manager"]["running"] == 0);
    CHECK(run["end"]["manager"]["hit_rate"].get<double>() > 0.5);

    words single = drawn; // in front of a single prompt as well
    single.insert(single.end(), {"--seed", "3", "--system-prompt", system_prompt, "--prompt", prompts[0]});
    CHECK(figures_of(single)["tokens"].get<tokens>() == alone[0]);
}

TEST_CASE("Where memory is short sequences wait and give way, and every text is the same") {
    const auto alone = one_by_one(drawn, system_prompt, 11);
    std::size_t preemptions = 0;
    for (const std::size_t more : std::vector<std::size_t>{0, 1, 5, 9, 14}) { // pages a tensor
        for (const std::string growth : {"exact", "look-ahead"}) {
            const std::size_t limit = least_limit() + more * 6 * 4096;
            words arguments = drawn;
            arguments.insert(arguments.end(), {"--seed", "11", "--system-prompt", system_prompt, "--growth",
                                               growth, "--kv-limit", std::to_string(limit)});
            const json run = batch(arguments);
            CAPTURE(more, growth);
            CHECK(tokens_of(run) == alone);
            CHECK(run["busiest_step"]["kernel_bytes"].get<std::size_t>() <= limit);
            CHECK(run["end"]["manager"]["preempted"] == 0);
            preemptions += run["end"]["manager"]["preemptions"].get<std::size_t>();
        }
    }
    CHECK(preemptions > 0);
}

TEST_CASE("Parallel samples are single runs with the next seeds, and their prompt is computed once") {
    constexpr std::size_t samples = 4;
    const auto alone = one_by_one(drawn, "", 20, samples);
    CHECK(alone[0] != alone[1]);
    std::size_t prompt_tokens = 0;
    for (const std::string& prompt : prompts)
        prompt_tokens += prompt.size();
    words arguments = drawn;
    arguments.insert(arguments.end(), {"--seed", "20", "--parallel-samples", std::to_string(samples)});

    const json plenty = batch(arguments);
    CHECK(tokens_of(plenty) == alone);
    CHECK(plenty["prefill_tokens"].get<std::size_t>() <= prompt_tokens);
    CHECK(plenty["sequences_at_once"] == begun(alone));
    CHECK(plenty["texts"][5]["prompt"] == 2);
    CHECK(plenty["texts"][5]["sample"] == 2);
    CHECK(plenty["texts"][5]["seed"] == 21);

    arguments.insert(arguments.end(), {"--kv-limit", std::to_string(least_limit())});
    for (const std::string growth : {"exact", "look-ahead"}) {
        words scarce = arguments;
        scarce.insert(scarce.end(), {"--growth", growth});
        const json run = batch(scarce);
        CAPTURE(growth);
        CHECK(tokens_of(run) == alone);
        CHECK(run["end"]["manager"]["preemptions"].get<std::size_t>() > 0);
    }
}

TEST_CASE("The texts of a batch come in the order of the prompts, then the table") {
    const temporary_directory directory;
    const finished run =
        decode({"--model", byte_model().string(), "--batch", directory.write("prompts", "one\ntwo").string(),
                "--max-tokens", "3", "--parallel-samples", "2"});
    REQUIRE(run.code == 0);
    std::size_t at = 0;
    for (const char* const next :
         {"[1, sample 1]\n", "[1, sample 2]\n", "[2, sample 1]\n", "[2, sample 2]\n", "prefill", "decode",
          "sequences at once", "prefix hits", "preemptions", "manager, a step", "the busiest step",
          "physical, kernel", "shared", "lazily held", "at the end", "backend host: host memory"}) {
        const std::size_t found = run.out.find(next, at);
        CAPTURE(next, run.out);
        REQUIRE(found != std::string::npos);
        at = found;
    }
}

TEST_CASE("A batch from the standard input is the batch of a file with the same lines") {
    const temporary_directory directory;
    const std::string file = directory.write("prompts", "one\r\n\ntwo\nthree").string();
    const auto run_on = [&](const std::string& from, const std::string& in) {
        return decode({"--model", byte_model().string(), "--batch", from, "--max-tokens", "3",
                       "--system-prompt", "We "},
                      {}, in);
    };
    const auto texts_of = [](const finished& run) { return run.out.substr(0, run.out.find("\nprefill ")); };
    const finished of_file = run_on(file, "/dev/null");
    const finished piped = run_on("-", file);
    CAPTURE(piped.err);
    REQUIRE(of_file.code == 0);
    REQUIRE(piped.code == 0);
    CHECK_THAT(piped.out, ContainsSubstring("\n[3]\n"));
    CHECK(texts_of(piped) == texts_of(of_file));
}

TEST_CASE("A batch that cannot be run is refused with one line and exit code 2") {
    const temporary_directory directory;
    const auto with_batch = [&](const std::string& file, const words& more) {
        words all{"--model", byte_model().string(), "--batch", file};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    };
    check_refused(with_batch("/nonexistent/prompts", {}), "/nonexistent/prompts");
    check_refused(with_batch(directory.path().string(), {}), "not a regular file");
    check_refused(with_batch(directory.write("empty", "").string(), {}), "holds no prompt");
    check_refused(with_batch(directory.write("blank", "\n\r\n\n").string(), {}), "holds no prompt");
    check_refused(with_batch("-", {}), "the standard input holds no prompt"); // nothing is piped in
    const finished endless = decode(with_batch("-", {}), {}, "/dev/zero");
    CHECK(endless.code == 2);
    CHECK_THAT(line_of(endless), ContainsSubstring("the standard input has more than 67108864 bytes"));
    const std::string good = directory.write("good", "a prompt\nanother").string();
    const std::vector<std::pair<words, std::string>> cases{
        {{"--parallel-samples", "0"}, "--parallel-samples"},
        {{"--parallel-samples", "many"}, "--parallel-samples"},
        {{"--evict", "snapkv", "--keep", "0.5"}, "leave --evict out"},
        {{"--layout", "packed"}, "--layout is for a cache that evicts"},
        {{"--growth", "geometric"}, "look-ahead"},
        {{"--prompt", "one more"}, "leave --prompt out"},
        {{"--backend", "cuda-sim"}, "--batch is for --backend host"},
        {{"--evict", "snapkv"}, "leave --evict out"},
        {{"--growth", "fixed"}, "look-ahead"},
        {{"--kv-limit", "4096"}, "--kv-limit is 4096"},
        {{"--system-prompt", "@/nonexistent/system"}, "/nonexistent/system"},
        {{"--max-tokens", "505"}, "prompt 1 of the batch: "},
        {{"--json", "/nonexistent/figures.json"}, "/nonexistent/figures.json"},
    };
    for (const auto& [more, says] : cases)
        check_refused(with_batch(good, more), says);
    const std::string lengthy = directory.write("long", "short\n" + std::string(512, 'a')).string();
    check_refused(with_batch(lengthy, {}), "prompt 2 of the batch: the prompt has 512 tokens");
    check_refused({"--model", byte_model().string(), "--prompt", "a", "--parallel-samples", "2"},
                  "give --batch as well");
    const std::string exact = std::to_string(needed_for(8 + 84));
    CHECK(
        decode(with_batch(good, {"--max-tokens", "85", "--page-bytes", "4096", "--kv-limit", exact})).code ==
        0);
    check_refused(with_batch(good, {"--max-tokens", "85", "--page-bytes", "4096", "--kv-limit",
                                    std::to_string(needed_for(8 + 84) - 1)}),
                  "raise it");
}
