// SPDX-License-Identifier: Apache-2.0
//
// How tables of shares are written.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <vector>

namespace vtensor::bench {

[[nodiscard]] inline std::string format(const char* how, double a, double b = 0, double c = 0) {
    std::array<char, 128> text{};
    std::snprintf(text.data(), text.size(), how, a, b, c);
    return text.data();
}

[[nodiscard]] inline double mean_of(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values)
        sum += value;
    return sum / static_cast<double>(values.size());
}

/// One cell of the tables: mean and range of the models' shares.
[[nodiscard]] inline std::string cell(const std::vector<double>& shares) {
    return format(" %.2f %.2f–%.2f", mean_of(shares), *std::ranges::min_element(shares),
                  *std::ranges::max_element(shares));
}

/// The head of a table: its title, and the names of the columns.
template <class Columns>
void print_head(const char* title, const Columns& columns, int width) {
    std::printf("\n%s\n%-26s", title, "method");
    for (const auto& column : columns)
        std::printf(" %*s", width, column.c_str());
    std::printf("\n");
}

} // namespace vtensor::bench
