// SPDX-License-Identifier: Apache-2.0
// How much memory do the requests of an engine take, how many fit under a limit, and what does it cost to
// manage it, by contiguous mapped tensors, by blocks with a table, and by ranges of the longest length?
//
// An engine with continuous batching (support/trace/engine.hpp) answers requests on a simulated clock
// (support/trace/cost_model.hpp, whose constants are assumptions and options); every memory manager really
// manages memory of the host for it, and the time of its calls is measured. Workloads: the lengths of
// bench/traces with tokens drawn by chance, chat of many turns, and requests behind a few system prompts, all
// from a seed. Requests come faster than they can be answered, so that memory is what limits.
//
// "held" is what live sequences keep from all others, shared memory once, without what is only kept for
// reuse. "waste" is held beyond the bytes of the different tokens of the live sequences, as a share of held;
// "x peak" and "x worst" are held to these bytes at its peak and at its worst step ("physical" in the file
// counts what was taken from the system, however it is used). A step's time is that of all calls in it;
// "steady" are the steps that only decode. "share" is that time in it and the simulated time of the model.
//
// --trace FILE (again for more; then only these), --manager NAME (likewise), --requests N a workload,
// --rate requests/s of traces, --seed N, --quick (seconds; rows checked), --check (rows checked),
// --json FILE, --svg FILE
// --thread-time: processor time of the calling thread in place of wall time, on a machine that others use;
// this clock adds some tenths of a microsecond to every call
// --page-kib N, --limit-mib N, --layers N, --kv-heads N, --width N, --element-bytes N, --headroom SHARE,
// --max-sequences N
// --step-seconds S, --sequence-seconds S, --context-token-seconds S, --prefill-rate tokens/s: cost_model.hpp
#include "support/bench_report.hpp"
#include "support/trace/engine.hpp"
#include "support/trace/make_workloads.hpp"
#include "support/trace/managers.hpp"
#include "support/trace/memory_chart.hpp"
#include "support/trace/run_summary.hpp"
#include "support/trace/settings.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace vtensor;
using namespace vtensor::bench;

namespace {

// ---- workloads ----

struct trace_file {
    std::filesystem::path file;
    double per_second; ///< more than can be answered
};

workload load_trace(const trace_file& chosen, const trace_settings& settings) {
    auto lengths = read_request_lengths(chosen.file);
    lengths.resize(std::min(lengths.size(), settings.requests));
    return make_trace(chosen.file.stem().string(), lengths, chosen.per_second, settings.seed);
}

std::vector<workload> make_workloads(const trace_settings& settings) {
    std::vector<workload> made;
    const auto rate = [&](double by_default) {
        return settings.per_second > 0 ? settings.per_second : by_default;
    };
    if (!settings.traces.empty()) {
        for (const std::string& file : settings.traces)
            made.push_back(load_trace({file, rate(4)}, settings));
        return made;
    }
    const std::filesystem::path folder = VTENSOR_TRACES;
    made.push_back(load_trace({folder / "arxiv_sample.csv", rate(2.5)}, settings));
    made.push_back(load_trace({folder / "sync_vs_async_trace.csv", rate(8)}, settings));
    // A conversation has six turns on average, and later turns wait for earlier ones.
    made.push_back(
        make_chat({.conversations = std::max<std::size_t>(1, settings.requests / 8)}, settings.seed));
    made.push_back(make_system_prompts({.requests = settings.requests}, settings.seed));
    return made;
}

// ---- one run ----

struct outcome {
    std::string manager;
    run_record record;
    run_summary summary;
    std::optional<double> adopted{};
};

outcome run(const compared_manager& manager, const workload& asked, const scene& where,
            const trace_settings& settings) {
    const auto memory = manager.make({.shape = where.shape,
                                      .page = where.page,
                                      .limit = where.limit,
                                      .max_tokens = asked.longest(),
                                      .max_sequences = settings.max_sequences,
                                      .prefixes = asked.prefixes_recur,
                                      .headroom = settings.headroom});
    engine simulated{asked,
                     *memory,
                     {.cost = settings.cost,
                      .max_sequences = settings.max_sequences,
                      .check_rows = settings.check,
                      .thread_time = settings.thread_time}};
    outcome found{std::string{manager.name}, simulated.run(), {}};
    if (!memory->verify())
        throw std::runtime_error{found.manager + ": its book-keeping is wrong"};
    if (found.record.wrong_rows != 0)
        throw std::runtime_error{found.manager + ": " + std::to_string(found.record.wrong_rows) +
                                 " rows do not hold what was written"};
    found.summary = summarize(found.record, where.shape);
    found.adopted = memory->adopted();
    return found;
}

// ---- what is shown ----

void print_head(const workload& asked, const scene& where) {
    std::printf("\n%s: %zu requests (%s); pages of %s, %s a token, limit %s\n", asked.name.c_str(),
                asked.requests.size(), asked.arrivals.c_str(), to_string(where.page).c_str(),
                to_string(where.shape.token()).c_str(), to_string(where.limit).c_str());
    std::printf("%-26s %9s %9s %7s %6s %6s %9s %9s %7s %8s %7s %8s %8s %8s %8s %8s\n", "", "held MiB",
                "held MiB", "waste", "x", "x", "sequences", "sequences", "answers", "pre-", "prefix",
                "us/step", "us/step", "us/step", "steady", "share");
    std::printf("%-26s %9s %9s %7s %6s %6s %9s %9s %7s %8s %7s %8s %8s %8s %8s %8s\n", "manager", "peak",
                "mean", "mean", "peak", "worst", "peak", "mean", "/s", "emptions", "hits", "mean", "p99",
                "max", "p99", "of time");
}

void print_line(const outcome& one) {
    constexpr double mib = 1 << 20;
    const run_summary& s = one.summary;
    std::printf("%-26s %9.1f %9.1f %6.1f%% %6.3f %6.3f %9zu %9.1f %7.3f %8zu %6.1f%% %8.2f %8.2f %8.1f %8.2f "
                "%7.4f%%\n",
                one.manager.c_str(), s.held.peak / mib, s.held.mean / mib,
                s.held.mean > 0 ? 100 * s.waste_mean / s.held.mean : 0, s.held.ratio_at_peak,
                s.held.worst_ratio, s.sequences_peak, s.sequences_mean, s.requests_per_second,
                one.record.preemptions, 100 * s.hit_rate, s.managing.mean * 1e6, s.managing.p99 * 1e6,
                s.managing.most * 1e6, s.steady.p99 * 1e6, 100 * s.share);
    if (one.adopted)
        std::printf("%-26s %.1f%% of the prompts' pages were mapped already\n", "", 100 * *one.adopted);
    if (one.record.refused > 0)
        std::printf("%-26s %zu requests were refused\n", "", one.record.refused);
    std::fflush(stdout);
}

void add_records(report& results, const workload& asked, const scene& where, const outcome& one) {
    const std::string name = asked.name + ", pages " + to_string(where.page) + ", " + one.manager;
    const run_summary& s = one.summary;
    constexpr double mib = 1 << 20;
    const double limit = static_cast<double>(where.limit.count()) / mib;
    const auto memory = [&](const std::string& what, const memory_summary& figures) {
        results.add({.name = name,
                     .metric = what + " peak",
                     .value = figures.peak / mib,
                     .unit = "MiB",
                     .limit = limit,
                     .ratio = figures.ratio_at_peak});
        results.add({.name = name,
                     .metric = what + " mean",
                     .value = figures.mean / mib,
                     .unit = "MiB",
                     .limit = limit});
        results.add({.name = name,
                     .metric = what + " worst ratio to tokens",
                     .value = figures.worst_ratio,
                     .unit = "x"});
    };
    memory("held", s.held);
    memory("physical", s.physical);
    const auto add = [&](const char* metric, double value, const char* unit) {
        results.add({.name = name, .metric = metric, .value = value, .unit = unit});
    };
    add("kept for reuse mean", s.kept_mean / mib, "MiB");
    add("waste mean", s.waste_mean / mib, "MiB");
    add("sequences peak", static_cast<double>(s.sequences_peak), "sequences");
    add("sequences mean", s.sequences_mean, "sequences");
    add("answers", s.requests_per_second, "1/s");
    add("finished", static_cast<double>(one.record.finished), "requests");
    add("refused", static_cast<double>(one.record.refused), "requests");
    add("preemptions", static_cast<double>(one.record.preemptions), "preemptions");
    add("recomputed", static_cast<double>(one.record.recomputed_tokens), "tokens");
    add("prefix hits", s.hit_rate, "share");
    if (one.adopted)
        add("pages mapped already", *one.adopted, "share");
    add("steps", static_cast<double>(one.record.steps.size()), "steps");
    const auto times = [&](const std::string& what, const step_times& figures) {
        results.add({.name = name, .metric = what + " mean", .value = figures.mean * 1e6, .unit = "us"});
        results.add({.name = name, .metric = what + " p99", .value = figures.p99 * 1e6, .unit = "us"});
        results.add({.name = name, .metric = what + " max", .value = figures.most * 1e6, .unit = "us"});
    };
    times("managing a step", s.managing);
    times("managing a steady step", s.steady);
    add("managing share", s.share, "share");
    add("managing hidden", one.record.hidden, "s");
}

int write_file(const std::string& name, const auto& writer) {
    if (name.empty())
        return 0;
    std::ofstream file{name};
    writer(file);
    file.flush();
    if (file)
        return 0;
    std::cerr << "bench_trace: cannot write " << name << '\n';
    return 2;
}

/// Those that were named, or all. Throws where there is none of a name.
std::vector<compared_manager> choose_managers(const trace_settings& settings) {
    if (settings.managers.empty())
        return {compared_managers.begin(), compared_managers.end()};
    std::vector<compared_manager> chosen;
    for (const std::string& name : settings.managers) {
        const auto* const found = std::ranges::find(compared_managers, name, &compared_manager::name);
        if (found == compared_managers.end()) {
            std::string known;
            for (const compared_manager& one : compared_managers)
                known += (known.empty() ? "" : ", ") + std::string{one.name};
            throw std::runtime_error{"there is no memory manager '" + name + "' among: " + known};
        }
        chosen.push_back(*found);
    }
    return chosen;
}

int run_all(const trace_settings& settings) {
    const auto managers = choose_managers(settings);
    report results{"bench_trace"};
    memory_chart chart;
    std::printf("bench_trace on %s\n", machine_description().c_str());
    const auto workloads = make_workloads(settings);
    for (const scene& where : settings.scenes) {
        for (const workload& asked : workloads) {
            print_head(asked, where);
            chart_panel panel{.title = asked.name + ", pages of " + to_string(where.page),
                              .limit = static_cast<double>(where.limit.count()) / (1 << 20),
                              .managers = {}};
            for (const compared_manager& manager : managers) {
                const outcome found = run(manager, asked, where, settings);
                print_line(found);
                add_records(results, asked, where, found);
                panel.managers.push_back(make_chart_manager(found.manager, found.record, where.shape));
            }
            chart.add(std::move(panel));
        }
    }
    const int json = write_file(settings.json, [&](std::ostream& out) { results.write_json(out); });
    const int svg = write_file(settings.svg, [&](std::ostream& out) { chart.write(out); });
    return std::max(json, svg);
}

} // namespace

int main(int count, char** arguments) {
    try {
        return run_all(read_settings(count, arguments));
    } catch (const std::exception& failure) {
        std::cerr << "bench_trace: " << failure.what() << '\n';
        return 2;
    }
}
