// SPDX-License-Identifier: Apache-2.0
//
// How many tokens the live sequences have, and how many different ones: what several sequences begin with
// counts once. It goes by what the workload says of its requests, not by what a memory manager finds.
#pragma once

#include "workload.hpp"

#include <cstddef>
#include <unordered_map>

namespace vtensor::bench {

class live_tokens {
  public:
    /// A sequence with `tokens` tokens, at least those that its group has in common.
    void add(const request& one, std::size_t tokens) {
        total_ += tokens;
        if (one.group != none && groups_[one.group]++ > 0)
            repeated_ += one.common;
    }
    void grow(std::size_t tokens) { total_ += tokens; }
    void remove(const request& one, std::size_t tokens) {
        total_ -= tokens;
        if (one.group != none && --groups_[one.group] > 0)
            repeated_ -= one.common;
    }

    [[nodiscard]] std::size_t total() const noexcept { return total_; }
    [[nodiscard]] std::size_t distinct() const noexcept { return total_ - repeated_; }

  private:
    std::size_t total_ = 0;
    std::size_t repeated_ = 0;
    std::unordered_map<std::size_t, std::size_t> groups_; ///< live sequences
};

} // namespace vtensor::bench
