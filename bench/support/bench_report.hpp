// SPDX-License-Identifier: Apache-2.0
//
// What every bench shares: timing by interleaved repeats, the table on the terminal and the file of
// `--json FILE`. It knows nothing of what is measured.
//
// {"bench": …, "machine": …, "records": [{"case": …, "metric": …, "value": …, "unit": …, "limit": …, "ratio":
// …,
//                                         "spread": …, "repeats": …}]}
//
// `limit` is what was measured in the same run and bounds the case, `ratio` the figure that the bar speaks
// of; either is null where there is none. `spread` is half the distance between the quartiles, as a share of
// the median.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace vtensor::bench {

// ---- timing ----

/// Repeated measurements of one thing.
class samples {
  public:
    samples() = default;
    explicit samples(std::vector<double> values) : sorted_{std::move(values)} { std::ranges::sort(sorted_); }

    [[nodiscard]] std::size_t count() const noexcept { return sorted_.size(); }
    [[nodiscard]] double median() const noexcept { return quantile(0.5); }
    /// Half the distance between the quartiles, as a share of the median.
    [[nodiscard]] double spread() const noexcept {
        return median() == 0 ? 0 : (quantile(0.75) - quantile(0.25)) / 2 / std::abs(median());
    }
    /// Between 0, the least, and 1, the most.
    [[nodiscard]] double quantile(double share) const noexcept {
        if (sorted_.empty())
            return 0;
        const double place = share * static_cast<double>(sorted_.size() - 1);
        const auto below = static_cast<std::size_t>(place);
        const std::size_t above = std::min(below + 1, sorted_.size() - 1);
        return std::lerp(sorted_[below], sorted_[above], place - static_cast<double>(below));
    }

  private:
    std::vector<double> sorted_;
};

/// Seconds, or another figure, of several pieces of work, by round, so that one round's can be compared.
template <std::size_t Works>
class rounds {
  public:
    explicit rounds(std::size_t repeats) : seconds_(repeats) {}

    [[nodiscard]] std::array<double, Works>& operator[](std::size_t round) { return seconds_[round]; }

    /// Seconds of the work at `index`.
    [[nodiscard]] samples seconds(std::size_t index) const {
        return collect([=](const auto& round) { return round[index]; });
    }
    /// Time of `one` divided by the time of `other`, round by round: what drifts slowly cancels.
    [[nodiscard]] samples ratio(std::size_t one, std::size_t other) const {
        return collect([=](const auto& round) { return round[one] / round[other]; });
    }

  private:
    template <class Figure>
    [[nodiscard]] samples collect(Figure figure) const {
        std::vector<double> values;
        values.reserve(seconds_.size());
        for (const auto& round : seconds_)
            values.push_back(figure(round));
        return samples{std::move(values)};
    }

    std::vector<std::array<double, Works>> seconds_;
};

/// The processor time of the calling thread: for work of one thread on a machine that others use too.
struct thread_clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<thread_clock>;
    static constexpr bool is_steady = true;

    [[nodiscard]] static time_point now() noexcept {
        std::timespec time{};
        ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
        return time_point{std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec}};
    }
};

/// Runs the pieces of work in turn, `repeats` times each after one warm-up round, so that a disturbance meets
/// all of them.
template <class Clock = std::chrono::steady_clock, class... Work>
[[nodiscard]] rounds<sizeof...(Work)> interleave(std::size_t repeats, Work&&... works) {
    const auto seconds_of = [](auto& work) {
        const auto start = Clock::now();
        work();
        return std::chrono::duration<double>(Clock::now() - start).count();
    };
    (works(), ...);
    rounds<sizeof...(Work)> timed{repeats};
    for (std::size_t round = 0; round < repeats; ++round)
        timed[round] = {seconds_of(works)...};
    return timed;
}

/// Keeps the compiler from leaving out what computes `value`.
template <class T>
void keep(const T& value) {
    asm volatile("" : : "g"(&value) : "memory");
}

// ---- reporting ----

/// The processor, its threads, the memory and the compiler, in one line.
[[nodiscard]] inline std::string machine_description() {
    const auto value_after = [](const char* file, std::string_view key) -> std::string {
        std::ifstream lines{file};
        for (std::string line; std::getline(lines, line);) {
            if (!line.starts_with(key))
                continue;
            const std::size_t colon = line.find(':');
            const std::size_t start = line.find_first_not_of(" \t", colon + 1);
            return start == std::string::npos ? "" : line.substr(start);
        }
        return "unknown";
    };
    std::ostringstream text;
    text << value_after("/proc/cpuinfo", "model name") << " (family "
         << value_after("/proc/cpuinfo", "cpu family") << ", model "
         << value_after("/proc/cpuinfo", "model\t") << "), " << std::thread::hardware_concurrency()
         << " threads, " << value_after("/proc/meminfo", "MemTotal") << " memory, "
#if defined(__clang__)
         << "clang " << __clang_major__ << '.' << __clang_minor__;
#elif defined(__GNUC__)
         << "gcc " << __GNUC__ << '.' << __GNUC_MINOR__;
#else
         << "unknown compiler";
#endif
    return text.str();
}

/// One line of the table.
struct record {
    std::string name;   ///< the case
    std::string metric; ///< what `value` counts: "read bandwidth", "time"
    double value = 0;
    std::string unit;
    std::optional<double> limit{}; ///< in `unit`, measured in the same run
    std::optional<double> ratio{};
    double spread = 0;       ///< of `value`, or of `ratio` where that is measured round by round
    std::size_t repeats = 1; ///< how many measurements the medians are of
};

/// Collects records, shows them and writes them.
class report {
  public:
    /// `device` goes before the description of the machine.
    explicit report(std::string name, const std::string& device = {})
        : name_{std::move(name)},
          machine_{device.empty() ? machine_description() : device + "; " + machine_description()} {}

    void add(record line) { records_.push_back(std::move(line)); }

    /// The table, as plain text.
    void print(std::ostream& out) const {
        out << name_ << " on " << machine_ << '\n';
        print_row(out, "case", "metric", "value", "unit", "limit", "ratio", "spread");
        for (const record& line : records_)
            print_row(out, line.name, line.metric, number(line.value), line.unit,
                      line.limit ? number(*line.limit) : "", line.ratio ? number(*line.ratio) : "",
                      "±" + number(line.spread * 100) + " %");
    }

    /// The same as one JSON object.
    void write_json(std::ostream& out) const {
        out << "{\"bench\": " << quoted(name_) << ", \"machine\": " << quoted(machine_) << ", \"records\": [";
        const char* separator = "\n  ";
        for (const record& line : records_) {
            out << separator << "{\"case\": " << quoted(line.name) << ", \"metric\": " << quoted(line.metric)
                << ", \"value\": " << json(line.value) << ", \"unit\": " << quoted(line.unit)
                << ", \"limit\": " << json(line.limit) << ", \"ratio\": " << json(line.ratio)
                << ", \"spread\": " << json(line.spread) << ", \"repeats\": " << line.repeats << '}';
            separator = ",\n  ";
        }
        out << "\n]}\n";
    }

    /// Shows the table and, where `json_file` is not empty, writes the file. Returns what main() returns.
    [[nodiscard]] int finish(const std::string& json_file) const {
        print(std::cout);
        if (json_file.empty())
            return 0;
        std::ofstream file{json_file};
        write_json(file);
        file.flush();
        if (file)
            return 0;
        std::cerr << name_ << ": cannot write " << json_file << '\n';
        return 2;
    }

  private:
    static void print_row(std::ostream& out, std::string_view name, std::string_view metric,
                          std::string_view value, std::string_view unit, std::string_view limit,
                          std::string_view ratio, std::string_view spread) {
        const auto cell = [&out](std::string_view text, std::size_t width, bool right) {
            // "±" is two bytes wide and one column.
            const std::size_t columns = text.size() - (text.starts_with("±") ? 1 : 0);
            const std::string padding(width > columns ? width - columns : 0, ' ');
            out << (right ? padding : "") << text << (right ? "" : padding) << "  ";
        };
        cell(name, 34, false);
        cell(metric, 16, false);
        cell(value, 10, true);
        cell(unit, 9, false);
        cell(limit, 10, true);
        cell(ratio, 8, true);
        cell(spread, 9, true);
        out << '\n';
    }

    static std::string number(double value) {
        std::array<char, 32> text{};
        std::snprintf(text.data(), text.size(), "%.4g", value);
        return text.data();
    }

    static std::string json(std::optional<double> value) {
        if (!value || !std::isfinite(*value))
            return "null";
        std::array<char, 32> text{};
        std::snprintf(text.data(), text.size(), "%.6g", *value);
        return text.data();
    }

    static std::string quoted(std::string_view text) {
        std::string out = "\"";
        for (const char letter : text) {
            if (letter == '"' || letter == '\\')
                out += '\\';
            out += static_cast<unsigned char>(letter) < 0x20 ? ' ' : letter;
        }
        return out + '"';
    }

    std::string name_;
    std::string machine_;
    std::vector<record> records_;
};

/// The one option that all benches have: the file behind `--json`, or nothing where it is not given.
[[nodiscard]] inline std::string json_option(int count, char** arguments) {
    for (int index = 1; index + 1 < count; ++index)
        if (std::string_view{arguments[index]} == "--json")
            return arguments[index + 1];
    return {};
}

} // namespace vtensor::bench
