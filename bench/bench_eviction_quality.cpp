// SPDX-License-Identifier: Apache-2.0
// What does a model still know after an eviction?
//
// Recall: the small models of bench/recall read a body of 192 tokens that hides 16 pairs of key and value and
// 24 markers of four classes, and an observation window of 32 tokens that asks 8 of the keys and, 16 times,
// for the class that most markers have. Then every method evicts, once, until a head holds the window's
// number of rows and a budget of 10 to 80 % of the body besides (24 of 192 among them); the rows are removed
// head by head and the others keep their positions. Then all keys and the class are asked. Values are shares
// of right answers: "unseen keys" were not asked in the window, "aggregate" is the class. Mean over models,
// each on sequences of its own; every method sees the same ones.
//
// Text: the example model of the decoder reads 768 held-out bytes, every method evicts, once, to 10 to 80 %
// of them, and the following 256 bytes are scored behind what is left. Values are bits a byte.
//
// The budget counts rows of a head, the window of 32 among them, also for the methods that protect no window.
// "random" draws rows for every head, "random, shared" the same ones for all.
//
// --sequences N a model, --models N at most, --windows N of text (0: none), --threads N, --recall DIRECTORY,
// --json FILE
#include "support/bench_report.hpp"
#include "support/eviction_methods.hpp"
#include "support/quality_tables.hpp"
#include "support/recall_quality.hpp"
#include "support/recall_task.hpp"
#include "support/text_quality.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace vtensor::bench;

namespace {

const std::vector<std::size_t> budgets{19, 24, 38, 58, 77, 96, 115, 134, 154}; // of 192: 10, 12.5, 20 … 80 %
constexpr std::size_t tight = 1;                                               // of them: 24 of 192
constexpr std::array text_methods{"random", "sliding_window", "h2o", "snapkv", "defensive_kv"};
constexpr std::array text_shares{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8};

struct settings {
    std::size_t models = 100;
    std::size_t sequences = 400;
    std::size_t windows = 8;
    std::size_t threads = std::max(1U, std::thread::hardware_concurrency());
    std::filesystem::path recall = VTENSOR_RECALL;
    std::string json;
};

settings read_settings(int count, char** arguments) {
    settings chosen;
    for (int index = 1; index < count; index += 2) {
        const std::string_view name = arguments[index];
        if (index + 1 == count)
            throw std::runtime_error{std::string{name} + " lacks its value"};
        const char* const value = arguments[index + 1];
        const auto number = [&] { return static_cast<std::size_t>(std::strtoul(value, nullptr, 10)); };
        if (name == "--models")
            chosen.models = number();
        else if (name == "--sequences")
            chosen.sequences = std::max<std::size_t>(1, number());
        else if (name == "--windows")
            chosen.windows = number();
        else if (name == "--threads")
            chosen.threads = std::max<std::size_t>(1, number());
        else if (name == "--recall")
            chosen.recall = value;
        else if (name == "--json")
            chosen.json = value;
        else
            throw std::runtime_error{"there is no option " + std::string{name}};
    }
    return chosen;
}

// ---- recall ----

using kind = tally recall_answers::*;

struct named_kind {
    const char* name;
    kind member;
};
constexpr std::array kinds{named_kind{"unseen keys", &recall_answers::unseen},
                           named_kind{"aggregate", &recall_answers::aggregate},
                           named_kind{"seen keys", &recall_answers::seen}};

struct recall_model {
    std::string name;
    recall_result result;
};

std::vector<recall_model> measure_models(const settings& chosen) {
    std::vector<std::filesystem::path> folders;
    for (const auto& entry : std::filesystem::directory_iterator{chosen.recall / "models"})
        folders.push_back(entry.path());
    std::ranges::sort(folders);
    folders.resize(std::min(folders.size(), chosen.models));
    if (folders.empty())
        throw std::runtime_error{"no model lies in " + (chosen.recall / "models").string()};
    std::vector<recall_model> models;
    for (const auto& folder : folders) {
        const auto seed = static_cast<std::uint32_t>(models.size() + 1);
        std::cerr << "recall: " << folder.filename().string() << '\n';
        models.push_back({folder.filename().string(),
                          measure_recall(folder, seed, chosen.sequences, budgets, chosen.threads)});
    }
    return models;
}

std::vector<double> shares_of(const std::vector<recall_model>& models, std::size_t method, std::size_t budget,
                              kind what) {
    std::vector<double> shares;
    for (const recall_model& model : models)
        shares.push_back((model.result.answers[method][budget].*what).share());
    return shares;
}

std::string budget_name(std::size_t budget) {
    return std::to_string(budgets[budget]) + "/" + std::to_string(recall::body);
}

void add_records(report& results, const std::string& name, const std::string& metric,
                 const std::vector<double>& shares, double full) {
    const auto add = [&](const std::string& what, double value) {
        results.add({.name = name,
                     .metric = what,
                     .value = value,
                     .unit = "share",
                     .limit = full,
                     .spread = samples{shares}.spread(),
                     .repeats = shares.size()});
    };
    add(metric, mean_of(shares));
    add(metric + ", lowest", *std::ranges::min_element(shares));
    add(metric + ", highest", *std::ranges::max_element(shares));
}

void show_recall(const std::vector<recall_model>& models, report& results) {
    const auto methods = all_methods();
    std::vector<std::string> columns;
    for (std::size_t budget = 0; budget < budgets.size(); ++budget)
        columns.push_back(budget_name(budget));
    for (const named_kind& what : kinds) {
        std::vector<double> full;
        for (const recall_model& model : models)
            full.push_back((model.result.full.*what.member).share());
        print_head((std::string{"Right answers: "} + what.name + ", mean and range of " +
                    std::to_string(models.size()) + " models; with everything kept" + cell(full))
                       .c_str(),
                   columns, 15);
        for (std::size_t method = 0; method < methods.size(); ++method) {
            std::printf("%-26s", methods[method].name.c_str());
            for (std::size_t budget = 0; budget < budgets.size(); ++budget) {
                const auto shares = shares_of(models, method, budget, what.member);
                std::printf(" %s", cell(shares).c_str());
                add_records(results, methods[method].name + " " + budget_name(budget), what.name, shares,
                            mean_of(full));
            }
            std::printf("\n");
        }
    }
}

/// Rows really kept, of those that the budget grants: a check that methods compare like with like.
void show_rows(const std::vector<recall_model>& models, report& results) {
    const auto methods = all_methods();
    for (std::size_t method = 0; method < methods.size(); ++method) {
        const recall_answers& answers = models.front().result.answers[method][tight];
        results.add({.name = methods[method].name + " " + budget_name(tight),
                     .metric = "rows kept",
                     .value = static_cast<double>(answers.rows) / static_cast<double>(answers.rows_before),
                     .unit = "share"});
    }
}

/// The figures that the bars speak of, model by model.
void show_tight(const std::vector<recall_model>& models, report& results) {
    const auto methods = all_methods();
    const auto number_of = [&](std::string_view name) {
        return static_cast<std::size_t>(std::ranges::find(methods, name, &eviction_method::name) -
                                        methods.begin());
    };
    std::printf("\nUnseen keys at %s, model by model\n%-10s", budget_name(tight).c_str(), "model");
    constexpr std::array shown{"random",
                               "random, shared",
                               "mean",
                               "max",
                               "max+clamp",
                               "max, layer budgets",
                               "defensive_kv, unpooled"};
    for (const char* const name : shown)
        std::printf(" %23s", name);
    std::printf(" %23s\n", "max - mean");
    for (const recall_model& model : models) {
        const auto share = [&](std::string_view name) {
            return model.result.answers[number_of(name)][tight].unseen.share();
        };
        std::printf("%-10s", model.name.c_str());
        for (const char* const name : shown) {
            std::printf(" %23.3f", share(name));
            results.add({.name = std::string{name} + " " + budget_name(tight) + " " + model.name,
                         .metric = "unseen keys",
                         .value = share(name),
                         .unit = "share",
                         .limit = model.result.full.unseen.share()});
        }
        std::printf(" %23.3f\n", share("max") - share("mean"));
        results.add({.name = "max - mean " + budget_name(tight) + " " + model.name,
                     .metric = "unseen keys",
                     .value = share("max") - share("mean"),
                     .unit = "share"});
    }
}

// ---- text ----

void show_text(const settings& chosen, report& results) {
    std::cerr << "text: " << chosen.windows << " windows\n";
    const text_result found = measure_text({.model = VTENSOR_TEXT_MODEL,
                                            .text = chosen.recall / "held-out.txt",
                                            .windows = chosen.windows,
                                            .threads = chosen.threads},
                                           text_methods, text_shares);
    std::vector<std::string> columns;
    for (const double share : text_shares)
        columns.push_back(format("%.0f %%", share * 100));
    print_head(
        format("Held-out text: bits a byte (perplexity) over %.0f bytes; with everything kept %.3f (%.2f)",
               static_cast<double>(found.scored), found.full, std::exp2(found.full))
            .c_str(),
        columns, 13);
    for (std::size_t method = 0; method < text_methods.size(); ++method) {
        std::printf("%-26s", text_methods[method]);
        for (std::size_t share = 0; share < text_shares.size(); ++share) {
            const double bits = found.bits[method][share];
            std::printf(" %13s", format("%.3f (%.2f)", bits, std::exp2(bits)).c_str());
            results.add({.name = std::string{text_methods[method]} + " " + columns[share],
                         .metric = "held-out text",
                         .value = bits,
                         .unit = "bits/byte",
                         .limit = found.full,
                         .ratio = bits / found.full});
        }
        std::printf("\n");
    }
}

int run(const settings& chosen) {
    report results{"bench_eviction_quality"};
    std::printf("bench_eviction_quality on %s\n", machine_description().c_str());
    const auto models = measure_models(chosen);
    show_recall(models, results);
    show_rows(models, results);
    show_tight(models, results);
    if (chosen.windows > 0)
        show_text(chosen, results);
    if (chosen.json.empty())
        return 0;
    std::ofstream file{chosen.json};
    results.write_json(file);
    file.flush();
    if (file)
        return 0;
    std::cerr << "bench_eviction_quality: cannot write " << chosen.json << '\n';
    return 2;
}

} // namespace

int main(int count, char** arguments) {
    try {
        return run(read_settings(count, arguments));
    } catch (const std::exception& failure) {
        std::cerr << "bench_eviction_quality: " << failure.what() << '\n';
        return 2;
    }
}
