// SPDX-License-Identifier: Apache-2.0
//
// What a manager of sequences takes and answers. Plain values.
#pragma once

#include <vtensor/kv/token.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace vtensor::kv {

/// A sequence of a manager. The default value is none; a number is never used twice.
enum class sequence_id : std::uint64_t {};

struct sequence_options {
    /// Sequences of different salts never share a page, nor does a page pass from one to the other without
    /// going through the pool, which scrubs where it was made to.
    salt_id salt{};
    int priority = 0; ///< the higher one's memory is not taken for the lower one
};

enum class sequence_state : std::uint8_t {
    running,   ///< has its rows
    preempted, ///< has only its tokens, until it is resumed
};

/// A sequence that was created or resumed.
struct placed_sequence {
    sequence_id id{};
    std::size_t matched = 0; ///< tokens, from the first, whose rows are there; those behind are to be written
};

/// What is added to a sequence in one step.
struct extension {
    sequence_id id{};
    std::span<const token_id> tokens{};
};

} // namespace vtensor::kv
