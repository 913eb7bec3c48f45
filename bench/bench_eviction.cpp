// SPDX-License-Identifier: Apache-2.0
// What does it cost to evict four fifths of a prompt's rows, against the prefill that it follows?
//
// One layer of the shape of Llama-3.1-8B, T tokens, one thread, float16 cache. Its prefill is causal
// attention (measured whole) and the linear products (Eigen, float32, measured on a block of tokens and
// multiplied up), both in this run. `limit` is that prefill in milliseconds and `ratio` the share of it, but
// where the metric says otherwise:
// evidence: what the attention room makes: the probabilities of the last 32 queries (attention of these
//   queries with them, less attention without), the sums over all queries (attention of all of them with
//   probabilities, less the prefill's), norms and likeness of keys, norms of outputs (W_O in bfloat16).
// arithmetic: of the norms of outputs, against Eigen's products. key read: bytes of keys against a plain
//   vectorised read.
// choose: scoring and selection of a policy, given evidence. evidence + choose: with all the evidence that it
//   asks for. evidence read: the bytes of evidence that `choose` reads against a plain vectorised read of
//   the probabilities.
// evict and move: 16 virtual tensors (K and V of every head, pages of 64 KiB) from all rows to what the
//   policy keeps. giving back: cutting them to as many rows without moving any. copying: the bytes moved in
//   the difference of the two, against memcpy of as many in the same tensors. memory left: mapped bytes, of
//   those before. decode step: attention of one query afterwards; limit: before; ratio: after / before. pays
//   after: decoded tokens that save the time of evidence, choice and moving.
#include "support/bench_report.hpp"
#include "support/evicted_tensors.hpp"
#include "support/eviction_layer.hpp"

#include <vtensor/policy/defrag.hpp>
#include <vtensor/policy/eviction/methods.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <exception>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

using namespace vtensor;
using namespace vtensor::bench;

namespace {

constexpr std::size_t repeats = 9;

double milliseconds(const samples& seconds) { return seconds.median() * 1e3; }

/// What one run knows of a layer, in milliseconds, to compare with.
struct costs {
    double prefill = 0;
    double window = 0; ///< probabilities of the last queries
    double sums = 0;   ///< of all queries
    double key_norms = 0;
    double key_similarity = 0;
    double output_norms = 0;

    [[nodiscard]] double of(const eviction::evidence_needs& needs) const {
        return (needs.window_queries != 0 ? window : 0) + (needs.accumulated ? sums : 0) +
               (needs.key_norms ? key_norms : 0) + (needs.key_similarity ? key_similarity : 0) +
               (needs.output_norms ? output_norms : 0);
    }
};

std::string named(const eviction_layer& layer, const char* name) {
    return "T=" + std::to_string(layer.tokens()) + " " + name;
}

void add_share(report& results, std::string name, const char* metric, double value, double prefill,
               double spread, std::size_t count) {
    results.add({.name = std::move(name),
                 .metric = metric,
                 .value = value,
                 .unit = "ms",
                 .limit = prefill,
                 .ratio = value / prefill,
                 .spread = spread,
                 .repeats = count});
}

// ---- prefill and evidence ----

costs measure_evidence(report& results, eviction_layer& layer, layer_products& products) {
    const double blocks = static_cast<double>(layer.tokens()) / static_cast<double>(layer_products::tokens);
    const auto slow = interleave<thread_clock>(
        3, [&] { layer.attend(); }, products, [&] { layer.find_output_norms(); },
        [&] { layer.attend_and_sum(); });
    const auto fast = interleave<thread_clock>(
        repeats, [&] { keep(read_all(layer.cache().keys[0], layer.cache().bytes() / 2)); },
        [&] { layer.attend_window(false); }, [&] { layer.attend_window(true); },
        [&] { layer.find_key_norms(); }, [&] { layer.find_key_similarity(); });

    costs found;
    const double linear = milliseconds(slow.seconds(1)) * blocks;
    found.prefill = milliseconds(slow.seconds(0)) + linear;
    found.window = std::max(0.0, milliseconds(fast.seconds(2)) - milliseconds(fast.seconds(1)));
    found.sums = std::max(0.0, milliseconds(slow.seconds(3)) - milliseconds(slow.seconds(0)));
    found.key_norms = milliseconds(fast.seconds(3));
    found.key_similarity = milliseconds(fast.seconds(4));
    found.output_norms = milliseconds(slow.seconds(2));

    const auto add = [&](const char* name, double value, const samples& from) {
        add_share(results, named(layer, name), "evidence", value, found.prefill, from.spread(), from.count());
    };
    add_share(results, named(layer, "prefill"), "attention", milliseconds(slow.seconds(0)), found.prefill,
              slow.seconds(0).spread(), 3);
    add_share(results, named(layer, "prefill"), "products", linear, found.prefill, slow.seconds(1).spread(),
              3);
    add("last 32 queries", found.window, fast.seconds(2));
    add("all queries", found.sums, slow.seconds(3));
    add("key norms", found.key_norms, fast.seconds(3));
    add("key similarity", found.key_similarity, fast.seconds(4));
    add("output norms", found.output_norms, slow.seconds(2));

    const double rate = layer.output_norm_operations() / slow.seconds(2).median() * 1e-9;
    const double peak = layer_products::operations() / slow.seconds(1).median() * 1e-9;
    results.add({.name = named(layer, "output norms"),
                 .metric = "arithmetic",
                 .value = rate,
                 .unit = "GFLOP/s",
                 .limit = peak,
                 .ratio = rate / peak,
                 .spread = slow.ratio(1, 2).spread(),
                 .repeats = 3});
    const double gigabytes = static_cast<double>(layer.cache().bytes() / 2) * 1e-9;
    results.add({.name = named(layer, "key norms"),
                 .metric = "key read",
                 .value = gigabytes / fast.seconds(3).median(),
                 .unit = "GB/s",
                 .limit = gigabytes / fast.seconds(0).median(),
                 .ratio = fast.ratio(0, 3).median(),
                 .spread = fast.ratio(0, 3).spread(),
                 .repeats = repeats});
    return found;
}

// ---- choosing ----

std::size_t bytes_of(const eviction::evidence_needs& needs, const eviction_layer& layer) {
    std::size_t heads =
        (needs.accumulated ? layer_shape::query_heads : 0) + (needs.key_norms ? layer_shape::kv_heads : 0) +
        (needs.key_similarity ? layer_shape::kv_heads : 0) + (needs.output_norms ? layer_shape::kv_heads : 0);
    heads += std::min(needs.window_queries, layer_shape::window) * layer_shape::query_heads;
    return heads * layer.tokens() * sizeof(float);
}

/// Returns the milliseconds of evidence and choice.
template <class Policy>
double measure_choice(report& results, const eviction_layer& layer, const costs& known, const char* name,
                      const Policy& policy, eviction::kept_rows& kept) {
    const eviction::layer_evidence shown = layer.evidence();
    eviction::workspace memory;
    const auto timed = interleave<thread_clock>(
        repeats, [&] { keep(read_all(layer.probabilities(), layer.probability_bytes())); },
        [&] {
            throw_if_failed(policy.choose({&shown, 1}, memory, kept));
        });
    const samples seconds = timed.seconds(1);
    const double both = milliseconds(seconds) + known.of(policy.needs());
    add_share(results, named(layer, name), "choose", milliseconds(seconds), known.prefill, seconds.spread(),
              repeats);
    add_share(results, named(layer, name), "evidence + choose", both, known.prefill, seconds.spread(),
              repeats);
    if (const std::size_t size = bytes_of(policy.needs(), layer); size != 0) {
        const double rate = static_cast<double>(size) / seconds.median() * 1e-9;
        const double limit =
            static_cast<double>(layer.probability_bytes()) / timed.seconds(0).median() * 1e-9;
        results.add({.name = named(layer, name),
                     .metric = "evidence read",
                     .value = rate,
                     .unit = "GB/s",
                     .limit = limit,
                     .ratio = rate / limit,
                     .spread = seconds.spread(),
                     .repeats = repeats});
    }
    return both;
}

// ---- moving ----

double seconds_of(auto&& work) {
    const auto start = thread_clock::now();
    work();
    return std::chrono::duration<double>(thread_clock::now() - start).count();
}

template <class Defrag>
void measure_moves(report& results, const eviction_layer& layer, const costs& known, double chosen,
                   const eviction::kept_rows& kept, const char* name, const Defrag& policy) {
    enum { moving, cutting, copying, before, after, works };
    head_tensors tensors{layer};
    rounds<works> timed{repeats};
    for (std::size_t round = 0; round <= repeats; ++round) {
        std::array<double, works> now{};
        tensors.restore();
        tensors.decode();
        now[before] = seconds_of([&] { tensors.decode(); });
        now[moving] = seconds_of([&] { tensors.evict(kept, policy); });
        tensors.decode();
        now[after] = seconds_of([&] { tensors.decode(); });
        tensors.restore();
        now[copying] = seconds_of([&] { tensors.copy_plainly(); });
        now[cutting] = seconds_of([&] { tensors.cut(); });
        if (round > 0) // the first warms up
            timed[round - 1] = now;
    }
    const auto of = [&](std::size_t work) { return milliseconds(timed.seconds(work)); };
    const auto count = [&](const char* metric, double value, const char* unit) {
        results.add({.name = named(layer, name), .metric = metric, .value = value, .unit = unit});
    };
    add_share(results, named(layer, name), "evict and move", of(moving), known.prefill,
              timed.seconds(moving).spread(), repeats);
    count("giving back", of(cutting), "ms");
    count("copied", static_cast<double>(tensors.moved_bytes) * 0x1p-20, "MiB");
    count("pages remapped", static_cast<double>(tensors.blocks), "");
    count("memory left", tensors.mapped_share() * 100, "%");
    if (tensors.moved_bytes != 0) {
        const double gigabytes = static_cast<double>(tensors.moved_bytes) * 1e-6;
        const double alone = of(moving) - of(cutting);
        results.add({.name = named(layer, name),
                     .metric = "copying",
                     .value = gigabytes / alone,
                     .unit = "GB/s",
                     .limit = gigabytes / of(copying),
                     .ratio = of(copying) / alone,
                     .spread = timed.seconds(moving).spread(),
                     .repeats = repeats});
    }
    results.add({.name = named(layer, name),
                 .metric = "decode step",
                 .value = of(after),
                 .unit = "ms",
                 .limit = of(before),
                 .ratio = timed.ratio(after, before).median(),
                 .spread = timed.ratio(after, before).spread(),
                 .repeats = repeats});
    if (of(before) > of(after))
        count("pays after", (chosen + of(moving)) / (of(before) - of(after)), "steps");
}

void measure(report& results, std::size_t tokens, layer_products& products) {
    eviction_layer layer{tokens};
    const costs known = measure_evidence(results, layer, products);
    layer.attend_window(true);
    eviction::kept_rows kept;
    const auto choose = [&](const char* name, const auto& policy) {
        return measure_choice(results, layer, known, name, policy, kept);
    };
    choose("knorm", eviction::knorm{});
    choose("keydiff", eviction::keydiff{});
    choose("h2o", eviction::h2o<>{});
    choose("critical<snapkv>", eviction::critical<eviction::snapkv<>>{});
    const auto move = [&](double chosen, const char* name, const auto& policy) {
        measure_moves(results, layer, known, chosen, kept, name, policy);
    };
    const double snapkv = choose("snapkv", eviction::snapkv<>{});
    move(snapkv, "snapkv compact", defrag::compact{});
    const double window = choose("sliding_window", eviction::sliding_window<>{});
    move(window, "sliding_window remap", defrag::remap{});
    const double defensive = choose("defensive_kv", eviction::defensive_kv<>{});
    move(defensive, "defensive_kv compact", defrag::compact{});
    move(defensive, "defensive_kv swap_with_last", defrag::swap_with_last{});
    move(defensive, "defensive_kv hybrid", defrag::hybrid{head_tensors{layer}.measured()});
    move(defensive, "defensive_kv none", defrag::none{});
}

} // namespace

int main(int count, char** arguments) {
    try {
        report results{"bench_eviction"};
        layer_products products;
        for (const std::size_t tokens : {4096u, 8192u})
            measure(results, tokens, products);
        return results.finish(json_option(count, arguments));
    } catch (const std::exception& failure) {
        std::cerr << "bench_eviction: " << failure.what() << '\n';
        return 2;
    }
}
