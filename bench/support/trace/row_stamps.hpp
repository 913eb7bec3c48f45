// SPDX-License-Identifier: Apache-2.0
//
// Writes into the first key of every token what can only be right for this token behind these tokens, and
// reads it again: a manager that mixes sequences up, or finds a prefix that is none, is found out.
#pragma once

#include "block_key.hpp"
#include "memory_manager.hpp"
#include "workload.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace vtensor::bench {

/// Takes 8 bytes a token of the workload. For checks only: every row is touched by the CPU.
class row_stamps {
  public:
    explicit row_stamps(const workload& asked) {
        for (const auto& stream : asked.streams) {
            auto& stamps = stamps_.emplace_back();
            stamps.reserve(stream.size());
            block_key key = first_key(0);
            for (const token_id& token : stream) {
                key = next_key(key, {&token, 1});
                stamps.push_back(key.low);
            }
        }
    }

    /// Of tokens `first` to `last` − 1.
    void write(memory_manager_under_test& memory, sequence_id sequence, const request& one, std::size_t first,
               std::size_t last) const {
        for (std::size_t token = first; token < last; ++token)
            std::memcpy(memory.key_row(sequence, token), &stamps_[one.stream][token], sizeof(std::uint64_t));
    }
    /// Rows among the first `count` that do not hold what was written.
    [[nodiscard]] std::size_t wrong(memory_manager_under_test& memory, sequence_id sequence,
                                    const request& one, std::size_t count) const {
        std::size_t found = 0;
        for (std::size_t token = 0; token < count; ++token)
            found += std::memcmp(memory.key_row(sequence, token), &stamps_[one.stream][token],
                                 sizeof(std::uint64_t)) != 0;
        return found;
    }

  private:
    std::vector<std::vector<std::uint64_t>> stamps_; ///< by stream
};

} // namespace vtensor::bench
