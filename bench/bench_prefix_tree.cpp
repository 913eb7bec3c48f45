// SPDX-License-Identifier: Apache-2.0
// What does a prefix tree cost for a token, as it grows and as prompts grow? All sequences are inserted, then
// each is looked up, in random order. Beside the tree, on the same sequences: a sorted map of whole prompts,
// and hashes of blocks of 16 tokens, each over all tokens before it, as vLLM finds its prefixes (to the
// block, and believing the hash). `limit` is what nothing can do without: for an insertion one copy of all
// tokens, for a match one comparison of all tokens with another copy of them, in the same order. `ratio` is
// the time divided by that. At the end all is evicted; an eviction has no limit to speak of. Processor time
// of the thread.
#include "support/bench_report.hpp"
#include "support/token_sequences.hpp"

#include <vtensor/kv/prefix_tree.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include <malloc.h>

using namespace vtensor;
using bench::sequences;
using bench::sharing;
using tokens = std::span<const kv::token_id>;

namespace {

constexpr std::size_t repeats = 5;

// ---- what is compared ----

struct radix_tree {
    static constexpr const char* name = "prefix_tree";
    kv::prefix_tree<std::size_t> tree;

    void insert(tokens prompt, std::size_t holder) {
        if (!tree.insert({}, prompt, holder))
            std::abort();
    }
    std::size_t match(tokens prompt) { return tree.match({}, prompt).tokens; }
};

struct prompt_map {
    static constexpr const char* name = "map of prompts";
    struct before {
        using is_transparent = void;
        bool operator()(tokens one, tokens other) const {
            const std::size_t same = kv::detail::common_prefix(one, other);
            return same < other.size() && (same == one.size() || one[same] < other[same]);
        }
    };
    std::map<std::vector<kv::token_id>, std::size_t, before> prompts;

    void insert(tokens prompt, std::size_t holder) {
        prompts.emplace(std::vector(prompt.begin(), prompt.end()), holder);
    }
    std::size_t match(tokens prompt) const {
        const auto next = prompts.lower_bound(prompt);
        std::size_t best = next == prompts.end() ? 0 : kv::detail::common_prefix(prompt, next->first);
        if (next != prompts.begin())
            best = std::max(best, kv::detail::common_prefix(prompt, std::prev(next)->first));
        return best;
    }
};

struct block_hashes {
    static constexpr const char* name = "hashes of 16";
    static constexpr std::size_t block = 16;
    struct is_hash_already {
        std::size_t operator()(std::uint64_t hash) const { return hash; }
    };
    std::unordered_map<std::uint64_t, std::size_t, is_hash_already> blocks;

    static std::uint64_t chained(std::uint64_t before, const kv::token_id* first) {
        std::uint64_t hash = before;
        for (std::size_t at = 0; at < block; at += 2) {
            std::uint64_t pair = 0;
            std::memcpy(&pair, first + at, sizeof(pair));
            hash = (hash ^ pair) * 0x9E3779B97F4A7C15U;
            hash ^= hash >> 32;
        }
        return hash;
    }
    void insert(tokens prompt, std::size_t holder) {
        std::uint64_t hash = 0;
        for (std::size_t at = 0; at + block <= prompt.size(); at += block)
            blocks.try_emplace(hash = chained(hash, &prompt[at]), holder);
    }
    std::size_t match(tokens prompt) const {
        std::uint64_t hash = 0;
        std::size_t at = 0;
        while (at + block <= prompt.size() && blocks.contains(hash = chained(hash, &prompt[at])))
            at += block;
        return at;
    }
};

// ---- measuring ----

template <class Work>
double seconds_of(Work work) {
    const auto start = bench::thread_clock::now();
    work();
    return std::chrono::duration<double>(bench::thread_clock::now() - start).count();
}

struct seconds {
    double insert = 0;
    double match = 0;
};

template <class Index>
seconds fill_and_match(Index& index, const sequences& all) {
    seconds spent;
    spent.insert = seconds_of([&] {
        for (std::size_t number = 0; number < all.count(); ++number)
            index.insert(all[number], number + 1);
    });
    std::size_t found = 0;
    spent.match = seconds_of([&] {
        for (const std::size_t number : all.order())
            found += index.match(all[number]);
    });
    if (found + 15 * all.count() < all.count() * all.length()) { // the blocks' last tokens are not found
        std::cerr << Index::name << " finds " << found << " tokens\n";
        std::abort();
    }
    return spent;
}

seconds copy_and_compare(const sequences& all, std::vector<kv::token_id>& other) {
    const std::size_t bytes = all.length() * sizeof(kv::token_id);
    seconds spent;
    spent.insert = seconds_of([&] {
        for (std::size_t number = 0; number < all.count(); ++number)
            std::memcpy(&other[number * all.length()], all[number].data(), bytes);
    });
    std::size_t differ = 0;
    spent.match = seconds_of([&] {
        for (const std::size_t number : all.order())
            differ += std::memcmp(&other[number * all.length()], all[number].data(), bytes) != 0 ? 1u : 0u;
    });
    if (differ > 0)
        std::abort();
    return spent;
}

void measure(bench::report& report, sharing kind, std::size_t count, std::size_t length) {
    const sequences all{kind, count, length};
    std::vector<kv::token_id> other(count * length);
    bench::rounds<9> timed{repeats}; // inserting, matching: the limit, then each index; evicting
    for (std::size_t round = 0; round <= repeats; ++round) {
        std::array<double, 9> spent{};
        std::size_t place = 0;
        const auto note = [&](const seconds& of) {
            spent[place++] = of.insert;
            spent[place++] = of.match;
        };
        note(copy_and_compare(all, other));
        {
            radix_tree index;
            note(fill_and_match(index, all));
            const std::size_t nodes = index.tree.nodes();
            spent[8] = seconds_of([&] {
                           while (index.tree.evict_least_recent()) {
                           }
                       }) /
                       static_cast<double>(nodes);
        }
        {
            prompt_map index;
            note(fill_and_match(index, all));
        }
        {
            block_hashes index;
            note(fill_and_match(index, all));
        }
        if (round > 0) // the first one warms up
            timed[round - 1] = spent;
    }
    const std::string shape =
        std::string{name(kind)} + " " + std::to_string(count) + " x " + std::to_string(length);
    const double scale = 1e9 / static_cast<double>(count * length);
    const char* const indexes[] = {radix_tree::name, prompt_map::name, block_hashes::name};
    for (std::size_t verb = 0; verb < 2; ++verb) {
        for (std::size_t index = 0; index < 3; ++index) {
            const std::size_t place = 2 + 2 * index + verb;
            const auto ratio = timed.ratio(place, verb);
            report.add({.name = shape + (verb == 0 ? ", insert" : ", match"),
                        .metric = indexes[index],
                        .value = timed.seconds(place).median() * scale,
                        .unit = "ns/token",
                        .limit = timed.seconds(verb).median() * scale,
                        .ratio = ratio.median(),
                        .spread = ratio.spread(),
                        .repeats = ratio.count()});
        }
    }
    const auto evicting = timed.seconds(8);
    report.add({.name = shape + ", evict",
                .metric = radix_tree::name,
                .value = evicting.median() * 1e9,
                .unit = "ns/node",
                .spread = evicting.spread(),
                .repeats = evicting.count()});
}

} // namespace

int main(int argc, char** argv) {
    ::mallopt(M_TRIM_THRESHOLD, -1); // memory that was given back is used again without the kernel
    ::mallopt(M_MMAP_MAX, 0);
    bench::report report{"bench_prefix_tree"};
    for (const sharing kind : {sharing::none, sharing::system_prompts, sharing::conversations})
        for (const std::size_t count : {1'000u, 10'000u, 100'000u})
            measure(report, kind, count, 1'000);
    for (const std::size_t length : {100u, 10'000u})
        measure(report, sharing::conversations, 10'000, length);
    measure(report, sharing::branches, 100'000, 1'000);
    return report.finish(bench::json_option(argc, argv));
}
