// SPDX-License-Identifier: Apache-2.0
//
// Reads the lengths of requests from a table: lines of values with commas between them, the names of the
// columns first. Of the columns, num_prefill_tokens and num_decode_tokens are read, wherever they stand.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <istream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace vtensor::bench {

/// Tokens of one request, each at least 1.
struct request_lengths {
    std::size_t prompt = 0;
    std::size_t decoded = 0;
    friend bool operator==(const request_lengths&, const request_lengths&) = default;
};

namespace detail {

inline constexpr double most_tokens = 1e9; ///< of a request: beyond it a table is broken

/// The cells of a line, blanks around them taken off.
inline std::vector<std::string_view> cells_of(std::string_view line) {
    std::vector<std::string_view> cells;
    while (true) {
        const std::size_t comma = line.find(',');
        std::string_view cell = line.substr(0, comma);
        const std::size_t first = cell.find_first_not_of(" \t\r");
        cell = first == std::string_view::npos
                   ? std::string_view{}
                   : cell.substr(first, cell.find_last_not_of(" \t\r") + 1 - first);
        cells.push_back(cell);
        if (comma == std::string_view::npos)
            return cells;
        line.remove_prefix(comma + 1);
    }
}

/// "192" and "192.0", but not "192.5", "-1", "0", "1e99", "nan" or "".
inline std::size_t token_count(std::string_view cell, const std::string& where) {
    double value = 0;
    const auto [end, failure] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
    const bool whole = failure == std::errc{} && end == cell.data() + cell.size() && value >= 1 &&
                       value <= most_tokens && value == std::floor(value);
    if (!whole)
        throw std::runtime_error{where + ": '" + std::string{cell} + "' is no number of tokens"};
    return static_cast<std::size_t>(value);
}

} // namespace detail

/// Throws std::runtime_error, naming `source` and the line, for a table that lacks a column, a row that lacks
/// a cell, a cell that is no whole number from 1 on, and a table without rows. Empty lines are passed over.
[[nodiscard]] inline std::vector<request_lengths> read_request_lengths(std::istream& in,
                                                                       const std::string& source) {
    std::string line;
    std::getline(in, line);
    constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
    if (line.starts_with(byte_order_mark))
        line.erase(0, byte_order_mark.size());
    const auto names = detail::cells_of(line);
    const auto column = [&](std::string_view name) {
        for (std::size_t index = 0; index < names.size(); ++index)
            if (names[index] == name)
                return index;
        throw std::runtime_error{source + ": there is no column " + std::string{name}};
    };
    const std::size_t prompt = column("num_prefill_tokens");
    const std::size_t decoded = column("num_decode_tokens");
    std::vector<request_lengths> found;
    for (std::size_t number = 2; std::getline(in, line); ++number) {
        const std::string where = source + ":" + std::to_string(number);
        const auto cells = detail::cells_of(line);
        if (cells.size() == 1 && cells[0].empty())
            continue;
        if (cells.size() <= std::max(prompt, decoded))
            throw std::runtime_error{where + ": the row is too short"};
        found.push_back(
            {detail::token_count(cells[prompt], where), detail::token_count(cells[decoded], where)});
    }
    if (in.bad())
        throw std::runtime_error{source + ": cannot be read"};
    if (found.empty())
        throw std::runtime_error{source + ": there are no requests"};
    return found;
}

[[nodiscard]] inline std::vector<request_lengths> read_request_lengths(const std::filesystem::path& file) {
    std::ifstream in{file};
    if (!in)
        throw std::runtime_error{file.string() + ": cannot be opened"};
    return read_request_lengths(in, file.string());
}

} // namespace vtensor::bench
