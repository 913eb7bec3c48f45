// SPDX-License-Identifier: Apache-2.0
#include "findings.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ostream>

namespace oracle {

namespace {

std::string number(const char* format, double value) {
    char text[64];
    std::snprintf(text, sizeof text, format, value);
    return text;
}

std::string right(const std::string& text, std::size_t width) {
    return std::string(width > text.size() ? width - text.size() : 0, ' ') + text;
}

} // namespace

void finding::differs(std::size_t layer, std::size_t head, const std::string& what) {
    if (first_difference.empty())
        first_difference = "layer " + std::to_string(layer) + ", head " + std::to_string(head) + ": " + what;
}

finding& findings::of(const std::string& method) {
    for (finding& one : all_)
        if (one.method == method)
            return one;
    all_.emplace_back().method = method;
    return all_.back();
}

bool findings::agree() const {
    return std::all_of(all_.begin(), all_.end(),
                       [](const finding& one) { return one.first_difference.empty(); });
}

void findings::print(std::ostream& out) const {
    out << "  method            numbers  largest rel. diff.     rows  ties\n";
    for (const finding& one : all_) {
        const auto count = [](std::size_t n) { return n == 0 ? std::string{"-"} : std::to_string(n); };
        out << "  " << one.method << std::string(16 - std::min<std::size_t>(16, one.method.size()), ' ')
            << right(count(one.scores), 9)
            << right(one.scores == 0 ? "-" : number("%.1e", one.largest_difference), 21)
            << right(count(one.kept), 9) << right(one.kept == 0 ? "-" : std::to_string(one.ties), 6)
            << (one.first_difference.empty() ? "" : "  DIFFERS") << '\n';
    }
    for (const finding& one : all_)
        if (!one.first_difference.empty())
            out << "  " << one.method << ": " << one.first_difference << '\n';
}

void compare_scores(finding& into, std::size_t layer, std::size_t head, std::span<const float> found,
                    std::span<const float> expected, double tolerance, double magnitude) {
    if (found.size() != expected.size())
        return into.differs(layer, head,
                            std::to_string(found.size()) + " scores, expected " +
                                std::to_string(expected.size()));
    for (std::size_t index = 0; index < found.size(); ++index) {
        const auto have = static_cast<double>(found[index]);
        const auto want = static_cast<double>(expected[index]);
        const double scale = std::max(std::abs(want), 0.1 * magnitude);
        const double difference = have == want ? 0 : std::abs(have - want) / scale;
        ++into.scores;
        if (!(difference <= tolerance))
            into.differs(layer, head,
                         "score " + std::to_string(index) + " is " + number("%.9g", have) + ", expected " +
                             number("%.9g", want) + " (relative difference " + number("%.1e", difference) +
                             ")");
        into.largest_difference = std::max(into.largest_difference, difference);
    }
}

void compare_kept(finding& into, std::size_t layer, std::size_t head, std::span<const std::uint8_t> found,
                  std::span<const std::uint8_t> expected, std::span<const float> scores, double bar) {
    for (std::size_t row = 0; row < found.size(); ++row) {
        ++into.kept;
        if (found[row] == expected[row])
            continue;
        const bool tied =
            row < scores.size() && std::abs(static_cast<double>(scores[row]) - bar) <= 1e-5 * std::abs(bar);
        if (tied)
            ++into.ties;
        else
            into.differs(layer, head,
                         "row " + std::to_string(row) +
                             (found[row] != 0 ? " is kept, expected to go" : " goes, expected to be kept"));
    }
}

} // namespace oracle
