// SPDX-License-Identifier: Apache-2.0
//
// A table of three columns for a person: a name, a figure to the right, what it means. Knows no figure.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

namespace decoder {

/// A row without a figure is a heading.
using table_row = std::array<std::string, 3>;

/// With a line break at its end.
[[nodiscard]] std::string render(const std::vector<table_row>& rows);

[[nodiscard]] std::string with_digits(double value, int digits);

/// Tokens a second; 0 where no time has passed.
[[nodiscard]] double rate(std::size_t tokens, double seconds);
[[nodiscard]] table_row speed_row(const char* name, std::size_t tokens, double seconds);

} // namespace decoder
