// SPDX-License-Identifier: Apache-2.0
//
// What a check of one file has found: a line a method, how much was compared and how near it was, and the
// first difference of every method that has one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <iosfwd>
#include <span>
#include <string>

namespace oracle {

/// Everything found of one method.
struct finding {
    std::string method;
    std::size_t scores = 0;        ///< numbers compared
    double largest_difference = 0; ///< relative, of all those numbers
    std::size_t kept = 0;          ///< rows compared by being kept
    std::size_t ties = 0;          ///< of them, those that differ and may
    std::string first_difference;  ///< empty: none

    /// "layer 1, head 0: …" unless there is an earlier one.
    void differs(std::size_t layer, std::size_t head, const std::string& what);
};

class findings {
  public:
    /// The line of a method, valid as long as this.
    finding& of(const std::string& method);
    [[nodiscard]] bool agree() const;
    /// The table, and below it the differences.
    void print(std::ostream& out) const;

  private:
    std::deque<finding> all_; ///< so that a finding stays where it is
};

/// Compares `found` with `expected` to `tolerance` relative to the expected number, and for numbers that are
/// small differences of larger ones to `tolerance` × 0.1 of `magnitude`.
void compare_scores(finding& into, std::size_t layer, std::size_t head, std::span<const float> found,
                    std::span<const float> expected, double tolerance = 1e-5, double magnitude = 0);

/// Compares which of the rows are kept. Rows may differ where their score and the highest score that was not
/// kept (`bar`) are as good as equal: nearer than 1e-5 of it. Rows without a score are guards and may not.
void compare_kept(finding& into, std::size_t layer, std::size_t head, std::span<const std::uint8_t> found,
                  std::span<const std::uint8_t> expected, std::span<const float> scores, double bar);

} // namespace oracle
