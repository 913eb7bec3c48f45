// SPDX-License-Identifier: Apache-2.0
#include "app/options.hpp"

#include "app/batch_file.hpp"
#include "io/file.hpp"
#include "io/input_error.hpp"

#include <vtensor/core/config.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <thread>

namespace decoder {

namespace {

constexpr std::size_t largest_prompt = 64U << 20;
constexpr std::array memory_names{"host", "cuda", "cuda-sim"};
constexpr std::array growth_names{"exact", "fixed", "geometric", "look-ahead"};
constexpr std::array type_names{"f32", "f16", "bf16"};
constexpr std::array defrag_names{"none", "compact", "swap_with_last", "remap", "hybrid", "incremental"};
constexpr std::array layout_names{"per_layer", "per_head", "packed"};

template <class Names>
std::vector<std::string> words_of(const Names& names) {
    return {names.begin(), names.end()};
}

template <class Enum, class Names>
Enum value_of(const std::string& word, const Names& names) {
    return static_cast<Enum>(std::find(names.begin(), names.end(), word) - names.begin());
}

vtensor::bytes bytes_of_option(const std::string& text, const char* option) {
    const auto value = parse_bytes(text);
    if (!value || value->count() == 0)
        refuse(std::string{option} + ": \"" + printable(text) +
               "\" is not a number of bytes above 0; write for instance 65536, 64KiB or 2MiB");
    return *value;
}

std::string read_prompt(const std::string& given) {
    return given.starts_with('@') ? read_text(given.substr(1), largest_prompt) : given;
}

std::size_t processors() { return std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, 256); }

/// CLI11 itself would wrap a negative number around.
std::string is_not_negative(const std::string& word) {
    return word.starts_with('-') ? "must be a whole number from 0 on" : "";
}

/// What CLI11 fills in, before it is checked any further.
struct words {
    std::string prompt;
    std::string system;
    std::string batch;
    std::string memory = "host";
    std::string growth = "exact";
    std::string type = "f16";
    std::string page;
    std::string limit;
    std::string json;
    std::string evict;
    std::string defrag = "compact";
    std::string layout = "per_head";
    double keep = 0;
    std::size_t max_tokens = 0;
};

void describe(CLI::App& app, settings& chosen, words& given) {
    constexpr std::size_t many = std::numeric_limits<std::uint32_t>::max();
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.add_option("--model", chosen.model,
                   "Directory in the Hugging Face layout: config.json, model.safetensors")
        ->required()
        ->type_name("DIR");
    app.add_option("--prompt", given.prompt, "The text to continue, or @FILE to read it from a file")
        ->type_name("TEXT|@FILE");
    app.add_option(
           "--batch", given.batch,
           "In place of --prompt: a file with a prompt a line, or - for the standard input; all of them "
           "are continued at once")
        ->type_name("FILE|-");
    app.add_option("--system-prompt", given.system,
                   "Put in front of the prompt, or of every prompt of the batch")
        ->type_name("TEXT|@FILE");
    app.add_option("--parallel-samples", chosen.samples,
                   "Texts of each prompt of the batch, drawn with the seeds S, S + 1, … (default: 1)")
        ->check(CLI::Range(std::size_t{1}, std::size_t{4096}))
        ->type_name("N");
    app.add_option("--max-tokens", given.max_tokens,
                   "Tokens to generate at most (default: 256, or what the context leaves)")
        ->check(CLI::Range(std::size_t{1}, many))
        ->type_name("N");
    app.add_option("--temperature", chosen.how.temperature,
                   "0 takes the likeliest token each time (default: 0)")
        ->check(CLI::Range(0.0, 100.0))
        ->type_name("X");
    app.add_option("--top-p", chosen.how.top_p,
                   "Draw among the likeliest tokens of this total probability (default: 1)")
        ->check(CLI::Range(0.0, 1.0))
        ->type_name("X");
    app.add_option("--seed", chosen.how.seed, "The seed of the draws (default: 0)")
        ->check(is_not_negative)
        ->type_name("N");
    app.add_option("--threads", chosen.threads, "Threads that compute (default: one a processor)")
        ->check(CLI::Range(std::size_t{1}, std::size_t{256}))
        ->type_name("N");
    app.add_option("--backend", given.memory,
                   "Where the cache lies: host, cuda, cuda-sim for a simulated device (default: host)")
        ->check(CLI::IsMember(words_of(memory_names)))
        ->type_name("BACKEND");
    app.add_option("--growth", given.growth,
                   "How the cache grows: exact, fixed, geometric, look-ahead (default: exact)")
        ->check(CLI::IsMember(words_of(growth_names)))
        ->type_name("POLICY");
    app.add_option("--page-bytes", given.page,
                   "Bytes of one page of the cache (default: room for 64 tokens of a layer)")
        ->type_name("N");
    app.add_option("--kv-limit", given.limit, "The most physical memory that the cache may hold")
        ->type_name("BYTES");
    app.add_option("--kv-type", given.type,
                   "What keys and values are stored as: f32, f16, bf16 (default: f16)")
        ->check(CLI::IsMember(words_of(type_names)))
        ->type_name("TYPE");
    app.add_option("--prefill-chunk", chosen.prefill_chunk,
                   "Tokens of the prompt computed at once (default: 256)")
        ->check(CLI::Range(std::size_t{1}, std::size_t{4096}))
        ->type_name("N");
    app.add_option("--evict", given.evict,
                   "Evict rows by this method: " + eviction_method_names() +
                       "; settings behind a colon, as in snapkv:window=16,kernel=3")
        ->type_name("NAME[:KEY=N,…]");
    app.add_option("--keep", given.keep,
                   "The fraction of the rows that stays (default: the method's own, 0.2 for most)")
        ->check(CLI::Range(0.0, 1.0))
        ->type_name("X");
    app.add_option("--defrag", given.defrag,
                   "How evicted rows leave: none, compact, swap_with_last, remap, hybrid, incremental "
                   "(default: compact)")
        ->check(CLI::IsMember(words_of(defrag_names)))
        ->type_name("NAME");
    app.add_option("--layout", given.layout,
                   "How a cache that evicts lays its heads out: per_layer, per_head, packed (default: "
                   "per_head)")
        ->check(CLI::IsMember(words_of(layout_names)))
        ->type_name("NAME");
    app.add_flag("--huge-pages", chosen.huge_pages, "Ask for pages of 2 MiB");
    app.add_option("--json", given.json, "Write the figures to this file as well")->type_name("FILE");
    app.set_version_flag("--version", "vtensor-decoder " VTENSOR_VERSION);
}

void check_eviction(const CLI::App& app, settings& chosen, const words& given) {
    if (app.count("--evict") == 0) {
        for (const char* const option : {"--keep", "--defrag", "--layout"})
            if (app.count(option) != 0)
                refuse(std::string{option} + " is for a cache that evicts; give --evict as well");
        return;
    }
    if (chosen.memory != memory_kind::host)
        refuse("--evict is for --backend host; leave one of them out");
    if (chosen.cache.growth != kv_growth::exact)
        refuse("--evict grows exactly; leave --growth out");
    if (!std::isfinite(given.keep))
        refuse("--keep must be a number from 0 to 1");
    chosen.evict = given.evict;
    if (app.count("--keep") != 0)
        chosen.keep = given.keep;
    chosen.defrag = value_of<defrag_kind>(given.defrag, defrag_names);
    chosen.layout = value_of<kv_layout>(given.layout, layout_names);
    static_cast<void>(make_eviction_method(given.evict, chosen.keep)); // refuses what is wrong
}

void check_batch(const CLI::App& app, const settings& chosen) {
    const bool has_prompt = app.count("--prompt") != 0;
    if (app.count("--batch") == 0) {
        if (!has_prompt)
            refuse("--prompt is required, or --batch; see --help");
        if (app.count("--parallel-samples") != 0)
            refuse("--parallel-samples is for a batch; give --batch as well");
        return;
    }
    if (has_prompt)
        refuse("--batch brings its own prompts; leave --prompt out");
    if (chosen.memory != memory_kind::host)
        refuse("--batch is for --backend host; leave one of them out");
    if (chosen.evict)
        refuse("--batch evicts no rows; leave --evict out");
    if (chosen.cache.growth != kv_growth::exact && chosen.cache.growth != kv_growth::look_ahead)
        refuse("--batch grows exactly, or ahead of need; give --growth exact or look-ahead");
}

void check(const CLI::App& app, settings& chosen, const words& given) {
    if (!std::isfinite(chosen.how.temperature) || !std::isfinite(chosen.how.top_p))
        refuse("--temperature and --top-p must be numbers");
    if (chosen.how.top_p == 0)
        refuse("--top-p 0 leaves no token to draw; use --temperature 0 to take the likeliest one");
    if (app.count("--max-tokens") != 0)
        chosen.max_tokens = given.max_tokens;
    chosen.memory = value_of<memory_kind>(given.memory, memory_names);
    if (chosen.huge_pages && chosen.memory != memory_kind::host)
        refuse("--huge-pages is for --backend host; leave it out, or give --page-bytes");
    chosen.cache.growth = value_of<kv_growth>(given.growth, growth_names);
    chosen.cache.type = value_of<kv_type>(given.type, type_names);
    if (app.count("--page-bytes") != 0)
        chosen.cache.page = bytes_of_option(given.page, "--page-bytes");
    if (app.count("--kv-limit") != 0)
        chosen.cache.limit = bytes_of_option(given.limit, "--kv-limit");
    if (app.count("--json") != 0)
        chosen.json = given.json;
    check_eviction(app, chosen, given);
    check_batch(app, chosen);
    const std::string system = read_prompt(given.system);
    if (app.count("--batch") == 0) {
        chosen.prompt = system + read_prompt(given.prompt);
        return;
    }
    chosen.batch = read_batch(given.batch);
    for (std::string& prompt : *chosen.batch)
        prompt.insert(0, system);
}

} // namespace

std::optional<vtensor::bytes> parse_bytes(const std::string& text) {
    constexpr std::size_t most = std::size_t{1} << 60;
    std::size_t number = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, trouble] = std::from_chars(text.data(), end, number);
    if (trouble != std::errc{})
        return std::nullopt;
    const std::string unit{rest, end};
    unsigned shift = 0;
    if (unit == "K" || unit == "KiB")
        shift = 10;
    else if (unit == "M" || unit == "MiB")
        shift = 20;
    else if (unit == "G" || unit == "GiB")
        shift = 30;
    else if (!unit.empty() && unit != "B")
        return std::nullopt;
    return number > (most >> shift) ? std::nullopt : std::optional{vtensor::bytes{number << shift}};
}

std::string name_of(memory_kind memory) { return memory_names[static_cast<std::size_t>(memory)]; }

std::string name_of(kv_growth growth) { return growth_names[static_cast<std::size_t>(growth)]; }

std::string name_of(defrag_kind defrag) { return defrag_names[static_cast<std::size_t>(defrag)]; }

std::string name_of(kv_layout layout) { return layout_names[static_cast<std::size_t>(layout)]; }

std::string name_of(kv_type type) { return type_names[static_cast<std::size_t>(type)]; }

command_line parse_command_line(int count, const char* const* arguments) {
    command_line line;
    words given;
    line.chosen.threads = processors();
    CLI::App app{"Continues a prompt with a Llama model whose KV cache lies in virtual tensors.",
                 "vtensor-decoder"};
    describe(app, line.chosen, given);
    try {
        app.parse(count, arguments);
    } catch (const CLI::CallForHelp&) {
        line.answer = app.help();
        return line;
    } catch (const CLI::CallForVersion& version) {
        line.answer = std::string{version.what()} + "\n";
        return line;
    } catch (const CLI::ParseError& failure) {
        refuse(printable(failure.what(), 300) + "; see --help");
    }
    check(app, line.chosen, given);
    return line;
}

} // namespace decoder
