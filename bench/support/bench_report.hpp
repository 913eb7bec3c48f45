// SPDX-License-Identifier: Apache-2.0
//
// What every benchmark prints and writes: one record a case and metric, with the limit it is compared to, as
// an aligned table and, with `--json FILE`, as JSON. A figure only means something beside the limit measured
// in the same run.
#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

/// The middle and the spread of repeated measurements.
struct sample {
    double median = 0;
    double low = 0;  ///< 10th percentile
    double high = 0; ///< 90th percentile
};

[[nodiscard]] inline sample summarise(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const auto at = [&](double share) {
        return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
    };
    return {at(0.5), at(0.1), at(0.9)};
}

/// Divides pairwise, so that a slow minute hits both sides of a ratio alike.
[[nodiscard]] inline std::vector<double> ratios(const std::vector<double>& values,
                                                const std::vector<double>& limits) {
    std::vector<double> result(values.size());
    std::transform(values.begin(), values.end(), limits.begin(), result.begin(),
                   [](double a, double b) { return a / b; });
    return result;
}

struct record {
    std::string name; ///< the case
    std::string metric;
    double value = 0;
    std::string unit;
    double limit = 0; ///< what the same run allows at best, or the peer; 0 where there is none
    double ratio = 0; ///< the figure that a bar speaks of; 0 where there is none
    std::string note; ///< spread, or what limit and ratio are
};

/// Collects records, prints them, writes them. Exits with 2 and one line where the options are wrong.
class report {
  public:
    report(std::string bench, int argc, char** argv) : bench_{std::move(bench)} {
        for (int index = 1; index < argc; ++index) {
            if (std::string_view{argv[index]} == "--json" && index + 1 < argc) {
                json_path_ = argv[++index];
            } else {
                std::cerr << bench_ << ": unknown option '" << argv[index] << "'; usage: " << bench_
                          << " [--json FILE]\n";
                std::exit(2);
            }
        }
        std::cout << bench_ << " on " << machine() << std::endl;
    }

    void add(record measured) {
        std::cerr << "  " << measured.name << ": done\n";
        records_.push_back(std::move(measured));
    }

    /// Prints the table and writes the file. The exit status of the program.
    int finish() const {
        print();
        return json_path_.empty() || write() ? 0 : 2;
    }

    /// Processor, cores and memory, as the system names them.
    [[nodiscard]] static std::string machine() {
        std::string name = "unknown processor";
        std::ifstream cpuinfo{"/proc/cpuinfo"};
        for (std::string line; std::getline(cpuinfo, line);) {
            if (line.starts_with("model name")) {
                name = line.substr(line.find(':') + 2);
                break;
            }
        }
        unsigned long kib = 0;
        std::ifstream meminfo{"/proc/meminfo"};
        for (std::string word; meminfo >> word;) {
            if (word == "MemTotal:") {
                meminfo >> kib;
                break;
            }
        }
        return name + ", " + std::to_string(std::thread::hardware_concurrency()) + " cores, " +
               std::to_string((kib + 524288) / 1048576) + " GiB";
    }

  private:
    static std::string number(double value) {
        if (value == 0)
            return "-";
        char text[32];
        const double size = value < 0 ? -value : value;
        std::snprintf(text, sizeof text,
                      size >= 1000  ? "%.0f"
                      : size >= 100 ? "%.1f"
                      : size >= 0.1 ? "%.3f"
                                    : "%.3g",
                      value);
        return text;
    }

    void print() const {
        std::vector<std::vector<std::string>> rows{
            {"case", "metric", "value", "unit", "limit", "ratio", "note"}};
        for (const record& entry : records_)
            rows.push_back({entry.name, entry.metric, number(entry.value), entry.unit, number(entry.limit),
                            number(entry.ratio), entry.note});
        std::vector<std::size_t> widths(rows.front().size(), 0);
        for (const auto& row : rows)
            for (std::size_t column = 0; column < row.size(); ++column)
                widths[column] = std::max(widths[column], row[column].size());
        for (const auto& row : rows) {
            for (std::size_t column = 0; column < row.size(); ++column) {
                const std::string padding(widths[column] - row[column].size(), ' ');
                const bool is_number = column == 2 || column == 4 || column == 5;
                std::cout << (is_number ? padding + row[column] : row[column] + padding) << "  ";
            }
            std::cout << '\n';
        }
    }

    bool write() const {
        nlohmann::ordered_json json{
            {"bench", bench_}, {"machine", machine()}, {"records", nlohmann::ordered_json::array()}};
        for (const record& entry : records_)
            json["records"].push_back({{"case", entry.name},
                                       {"metric", entry.metric},
                                       {"value", entry.value},
                                       {"unit", entry.unit},
                                       {"limit", entry.limit},
                                       {"ratio", entry.ratio},
                                       {"note", entry.note}});
        std::ofstream file{json_path_};
        file << json.dump(2) << '\n';
        if (!file.flush()) {
            std::cerr << bench_ << ": cannot write '" << json_path_
                      << "'; is the folder there and writable?\n";
            return false;
        }
        return true;
    }

    std::string bench_;
    std::string json_path_;
    std::vector<record> records_;
};

} // namespace bench
