// SPDX-License-Identifier: Apache-2.0
// What does a step of a serving engine cost the thread that schedules it?
//
// 64 sequences × 32 layers × (K, V), rows of 256 bytes, pages of 64 KiB from a pool that has them, on the
// host backend. "extend" is one call of try_extend for one more token of every sequence, which the engine has
// just written into the batch, in steps of 2 ms, during which a mapper thread maps ahead: one that is woken,
// or one that looks for requests by itself every 500 us; against the same with the calling thread mapping
// what it needs. Between the calls the thread sleeps, as it does while a model computes elsewhere, or spins,
// as one that waits for a device does. "128 lines" says what this machine makes of so little after such a
// pause: one write to each of 128 lines of memory (two a sequence), and nothing else. Records lie on huge
// pages where the system has them to give. The sequences begin with different lengths, so that their pages
// end at different steps. Figures of steps are those of the round in the middle of several, and the ratio is
// that to the synchronous way in the same round. The others are one call each on a sequence of 2,000 tokens:
// "new" maps all its pages, "adopted" finds the pages of a released sequence, "matched" maps those of a
// recorded prefix a second time, "continued" takes the cache of the sequence that it continues. Times are
// wall times of the calling thread.
#include "support/bench_report.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/backends/host/huge_memory.hpp>
#include <vtensor/kv/manager.hpp>
#include <vtensor/kv/per_layer_cache.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

using namespace vtensor;

namespace {

using layer_type = kv::per_layer_cache<float16, host_backend, growth::exact, std::mutex>;
using cache_type = kv::kv_cache<layer_type>;
using manager_type = kv::manager<cache_type>;
using steady = std::chrono::steady_clock;

constexpr std::size_t sequences = 64;
constexpr std::size_t layers = 32;
constexpr kv::layer_shape layer{1, 128, 128, 4096};
constexpr bytes page = 64_KiB;
constexpr std::size_t tokens_a_page = 256;

std::vector<kv::token_id> text(std::size_t count, int first) {
    std::vector<kv::token_id> made(count);
    std::iota(made.begin(), made.end(), first);
    return made;
}

template <class Work>
double microseconds(Work work) {
    const auto start = steady::now();
    work();
    return std::chrono::duration<double, std::micro>(steady::now() - start).count();
}

/// The model computes, elsewhere.
void pause(bool spins) {
    const auto end = steady::now() + std::chrono::milliseconds{2};
    if (!spins)
        std::this_thread::sleep_until(end);
    while (steady::now() < end)
        continue;
}

/// Each step's microseconds on the calling thread.
std::vector<double> decode(mapper* thread, bool spins, std::size_t steps) {
    host_backend memory;
    huge_memory records;
    layer_type::pool_type pool{memory, {.chunk_size = page}};
    manager_type::options_type options;
    options.records = &records;
    options.thread = thread;
    options.tokens_ahead = tokens_a_page;
    options.cache.tokens_a_growth = 0;
    const auto manager = manager_type::try_create(pool, {layers, layer}, options).value();
    std::vector<kv::sequence_id> running;
    for (std::size_t index = 0; index < sequences; ++index)
        running.push_back(
            manager->try_create(text(1 + 4 * index, static_cast<int>(index) * 10'000)).value().id);
    throw_if_failed(pool.prefill(sequences * layers * 2 * (steps / tokens_a_page + 3)));

    // As an engine does that has sampled a token for each of them.
    std::vector<kv::token_id> sampled(sequences);
    std::vector<kv::extension> batch(sequences);
    const auto sample = [&](std::size_t step) {
        for (std::size_t index = 0; index < sequences; ++index) {
            sampled[index] = static_cast<kv::token_id>(step + index);
            batch[index] = {running[index], std::span{&sampled[index], 1}};
        }
    };
    sample(0);
    throw_if_failed(manager->try_extend(batch)); // asks for the first pages ahead
    if (thread != nullptr)
        thread->drain();
    std::vector<double> times;
    for (std::size_t step = 0; step < steps; ++step) {
        sample(step);
        times.push_back(microseconds([&] { throw_if_failed(manager->try_extend(batch)); }));
        pause(spins);
    }
    return times;
}

/// The same for touching memory alone.
std::vector<double> touch(bool spins, std::size_t steps) {
    constexpr std::size_t lines = 2 * sequences;
    constexpr std::size_t apart = 256;
    std::vector<char> memory(lines * apart);
    std::vector<double> times;
    for (std::size_t step = 0; step < steps; ++step) {
        times.push_back(microseconds([&] {
            for (std::size_t line = 0; line < lines; ++line)
                ++memory[line * apart];
        }));
        bench::keep(memory[step % memory.size()]);
        pause(spins);
    }
    return times;
}

// What is measured of the steps: the quantile of a round's, and of those the one in the middle; of the
// longest the longest.
struct step_figure {
    const char* metric;
    double of_steps, of_rounds;
};
constexpr std::array step_figures{step_figure{"median", 0.5, 0.5}, step_figure{"p99", 0.99, 0.5},
                                  step_figure{"max", 1, 1}};

void measure_steps(bench::report& report, std::size_t rounds, std::size_t steps) {
    static constexpr std::array names{"extend, synchronous", "extend, look-ahead, woken",
                                      "extend, look-ahead, looking", "128 lines"};
    for (const bool spins : {false, true}) {
        std::vector<bench::rounds<names.size()>> figures(step_figures.size(),
                                                         bench::rounds<names.size()>{rounds});
        for (std::size_t round = 0; round < rounds; ++round) {
            std::cerr << (spins ? "spinning" : "sleeping") << ": round " << round + 1 << " of " << rounds
                      << '\n';
            const auto note = [&](std::size_t which, std::vector<double> times) {
                const bench::samples of{std::move(times)};
                for (std::size_t figure = 0; figure < step_figures.size(); ++figure)
                    figures[figure][round][which] = of.quantile(step_figures[figure].of_steps);
            };
            note(0, decode(nullptr, spins, steps));
            {
                mapper woken;
                note(1, decode(&woken, spins, steps));
            }
            {
                mapper looking{std::chrono::microseconds{500}};
                note(2, decode(&looking, spins, steps));
            }
            note(3, touch(spins, steps));
        }
        for (std::size_t which = 0; which < names.size(); ++which) {
            for (std::size_t figure = 0; figure < step_figures.size(); ++figure) {
                const double middle = step_figures[figure].of_rounds;
                const bench::samples values = figures[figure].seconds(which);
                bench::record line{.name = std::string{names[which]} + (spins ? ", spinning" : ", sleeping"),
                                   .metric = step_figures[figure].metric,
                                   .value = values.quantile(middle),
                                   .unit = "us",
                                   .spread = values.spread(),
                                   .repeats = rounds};
                if (which > 0) {
                    line.limit = figures[figure].seconds(0).quantile(middle);
                    line.ratio = figures[figure].ratio(which, 0).median();
                }
                report.add(std::move(line));
            }
        }
    }
}

void measure_verbs(bench::report& report, std::size_t rounds) {
    host_backend memory;
    layer_type::pool_type pool{memory, {.chunk_size = page}};
    manager_type::options_type options;
    options.cache.tokens_a_growth = 0;
    constexpr std::size_t length = 2000;
    std::vector<double> fresh, adopted, matched, continued, forked, recorded, released;
    for (std::size_t round = 0; round <= rounds; ++round) {
        const auto manager = manager_type::try_create(pool, {layers, layer}, options).value();
        const auto place = [&](std::vector<double>& times, const std::vector<kv::token_id>& prompt) {
            kv::placed_sequence made;
            times.push_back(microseconds([&] { made = manager->try_create(prompt).value(); }));
            return made.id;
        };
        const auto first = place(fresh, text(length, 0));
        released.push_back(microseconds([&] { throw_if_failed(manager->try_release(first)); }));
        const auto second = place(adopted, text(length, 1));
        recorded.push_back(microseconds([&] { throw_if_failed(manager->try_record(second)); }));
        auto prompt = text(length, 1);
        prompt.push_back(7);
        static_cast<void>(place(matched, prompt));
        kv::sequence_id child{};
        forked.push_back(microseconds([&] { child = manager->try_fork(second).value(); }));
        throw_if_failed(manager->try_release(second));
        static_cast<void>(place(continued, prompt));
        if (round == 0) // only warms up
            for (auto* one : {&fresh, &adopted, &matched, &continued, &forked, &recorded, &released})
                one->clear();
    }
    const double whole = bench::samples{fresh}.median();
    const auto add = [&](const char* name, const std::vector<double>& times) {
        const bench::samples of{times};
        report.add({.name = name,
                    .metric = "2,000 tokens, 64 tensors",
                    .value = of.median(),
                    .unit = "us",
                    .limit = whole,
                    .ratio = of.median() / whole,
                    .spread = of.spread(),
                    .repeats = rounds});
    };
    add("create, new", fresh);
    add("create, adopted", adopted);
    add("create, matched", matched);
    add("create, continued", continued);
    add("fork", forked);
    add("record", recorded);
    add("release", released);
}

} // namespace

int main(int argc, char** argv) {
    bench::report report{"bench_manager"};
    measure_verbs(report, 15);
    measure_steps(report, 7, 1200);
    return report.finish(bench::json_option(argc, argv));
}
