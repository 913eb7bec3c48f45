// SPDX-License-Identifier: Apache-2.0
#include "app/table.hpp"

#include <algorithm>
#include <cstdio>

namespace decoder {

double rate(std::size_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

std::string with_digits(double value, int digits) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.*f", digits, value);
    return text.data();
}

table_row speed_row(const char* name, std::size_t tokens, double seconds) {
    const double speed = rate(tokens, seconds);
    return {name, with_digits(speed, speed < 100 ? 1 : 0) + " tokens/s",
            std::to_string(tokens) + " tokens in " + with_digits(seconds, 3) + " s"};
}

std::string render(const std::vector<table_row>& rows) {
    std::array<std::size_t, 2> widths{};
    for (const table_row& each : rows)
        for (std::size_t column = 0; column < widths.size(); ++column)
            widths[column] = std::max(widths[column], each[column].size());
    std::string table;
    for (const table_row& each : rows) {
        if (each[1].empty()) { // a heading
            table += each[0] + "\n";
            continue;
        }
        table += each[0] + std::string(widths[0] - each[0].size() + 2, ' ');
        table += std::string(widths[1] - each[1].size(), ' ') + each[1];
        table += "  " + each[2] + "\n";
    }
    return table;
}

} // namespace decoder
