// SPDX-License-Identifier: Apache-2.0
//
// The decoder with an eviction policy, as a user runs it: what stays, what memory is left by the kernel's
// count, and that a policy which keeps everything changes no token.
#include <support/catch.hpp>

#include "support/spawn.hpp"
#include "support/temporary.hpp"
#include "support/vectors.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using decoder_test::content_of;
using decoder_test::finished;
using decoder_test::temporary_directory;
using decoder_test::vectors;
using nlohmann::json;

namespace {

using words = std::vector<std::string>;

const words methods{"sliding_window",
                    "h2o",
                    "observed",
                    "snapkv",
                    "pyramid_snapkv",
                    "ada_snapkv",
                    "tova",
                    "knorm",
                    "keydiff",
                    "critical_snapkv",
                    "defensive_kv",
                    "layer_defensive_kv",
                    "window_kv",
                    "window_kv_best",
                    "lazy"};
const words layouts{"per_layer", "per_head", "packed"};

finished decode(const words& more) {
    const std::string prompt(300, 'a');
    std::string text;
    for (std::size_t i = 0; i < prompt.size(); ++i)
        text += static_cast<char>('a' + i * i % 23);
    words all{"--model", (vectors() / "untied_llama3").string(), "--prompt", text};
    all.insert(all.end(), more.begin(), more.end());
    return decoder_test::spawn(VTENSOR_DECODER_PROGRAM, all);
}

json decode_to_json(words more) {
    const temporary_directory directory;
    const std::string file = (directory.path() / "run.json").string();
    more.insert(more.end(), {"--json", file});
    const finished run = decode(more);
    CAPTURE(more, run.err);
    REQUIRE(run.code == 0);
    return json::parse(content_of(file));
}

void check_refused(const words& more, const std::string& says) {
    const finished run = decode(more);
    CAPTURE(more, run.err);
    CHECK(run.code == 2);
    CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
    CHECK_THAT(run.err, ContainsSubstring(says));
}

} // namespace

TEST_CASE("A policy that keeps every row changes no token, in any layout") {
    const json plain = decode_to_json({"--max-tokens", "24"});
    for (const auto& layout : layouts) {
        for (const std::string method : {"snapkv", "h2o", "layer_defensive_kv"}) {
            const json run =
                decode_to_json({"--max-tokens", "24", "--evict", method, "--keep", "1", "--layout", layout});
            CAPTURE(layout, method);
            CHECK(run["tokens"] == plain["tokens"]);
            CHECK(run["eviction"]["evictions"].get<int>() > 0);
        }
    }
    const json window =
        decode_to_json({"--max-tokens", "24", "--evict", "sliding_window:recent=400", "--layout", "packed"});
    CHECK(window["tokens"] == plain["tokens"]);
}

TEST_CASE("Every method evicts, and the kernel has the memory back") {
    for (const auto& method : methods) {
        words more{"--max-tokens", "40", "--page-bytes", "4096", "--kv-type", "f32", "--evict", method};
        if (method == "sliding_window")
            more.back() += ":recent=50";
        if (method == "h2o")
            more.back() += ":rows=60,recent=20";
        if (method == "lazy")
            more.back() += ":rows=60,every=8,recent=8";
        const json run = decode_to_json(more);
        CAPTURE(method, run["eviction"].dump());
        const json& done = run["eviction"];
        CHECK(done["evictions"].get<int>() >= 1);
        for (const json& layer : done["kept_tokens"]) {
            CHECK(layer["least"] <= layer["median"]);
            CHECK(layer["median"] <= layer["most"]);
            CHECK(layer["most"].get<std::size_t>() < 300);
        }
        const auto before = done["before"]["kernel_bytes"].get<std::size_t>();
        const auto after = done["after"]["kernel_bytes"].get<std::size_t>();
        CHECK(done["after"]["mapped_bytes"].get<std::size_t>() == after);
        CHECK(after < before);
    }
}

TEST_CASE("The table shows what an eviction left of every layer, and its memory by both counts") {
    const finished run =
        decode({"--max-tokens", "8", "--page-bytes", "4096", "--evict", "knorm", "--keep", "0.25"});
    CAPTURE(run.out, run.err);
    REQUIRE(run.code == 0);
    // 300 rows of 48 bytes are 4 pages, a quarter of them and 7 more 1, in a tensor each for keys and values
    // of 6 heads.
    CHECK_THAT(run.out, ContainsSubstring("by the library     192 KiB → 48 KiB"));
    CHECK_THAT(run.out, ContainsSubstring("by the kernel      192 KiB → 48 KiB"));
    CHECK_THAT(run.out, ContainsSubstring("82 / 82 / 82  tokens of a head: the least, the median, the most"));
    for (const char* const says : {"layer 0 ", "layer 1 ", "layer 2 ", "ms choosing", "ms moving rows"})
        CHECK_THAT(run.out, ContainsSubstring(says));
}

TEST_CASE("Every defragmentation works in every layout, and what a query sees is the same by all of them") {
    for (const auto& layout : layouts) {
        json first;
        for (const std::string defrag :
             {"compact", "none", "swap_with_last", "remap", "hybrid", "incremental"}) {
            const json run = decode_to_json({"--max-tokens", "16", "--kv-type", "f32", "--evict", "knorm",
                                             "--keep", "0.5", "--layout", layout, "--defrag", defrag});
            CAPTURE(layout, defrag);
            if (first.is_null())
                first = run;
            CHECK(run["eviction"]["kept_tokens"] == first["eviction"]["kept_tokens"]);
        }
    }
}

TEST_CASE("What cannot be evicted as asked is refused in one line that says what to do") {
    check_refused({"--evict", "nothing"}, "there is no method \"nothing\"; there are sliding_window, h2o");
    check_refused({"--evict", "snapkv:size=3"}, "\"size=3\" is not one of its settings; it has kernel");
    check_refused({"--evict", "snapkv:window=many"}, "\"many\" does not fit window; give a whole number");
    check_refused({"--evict", "snapkv:window"}, "is not one of its settings");
    check_refused({"--evict", "lazy:alpha=3"}, "give a number from 0 to 1");
    check_refused({"--evict", "sliding_window", "--keep", "0.5"}, "--keep means nothing");
    check_refused({"--keep", "0.5"}, "give --evict as well");
    check_refused({"--layout", "packed"}, "give --evict as well");
    check_refused({"--evict", "snapkv", "--keep", "1.5"}, "--keep");
    check_refused({"--evict", "snapkv", "--growth", "fixed"}, "leave --growth out");
    check_refused({"--evict", "snapkv", "--backend", "cuda-sim"}, "--evict is for --backend host");
}
