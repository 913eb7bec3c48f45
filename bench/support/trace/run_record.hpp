// SPDX-License-Identifier: Apache-2.0
//
// What happened in a run of the engine, step by step. Plain data.
#pragma once

#include "memory_manager.hpp"

#include <cstddef>
#include <vector>

namespace vtensor::bench {

/// A step; its sequences, tokens and memory are those after memory was given out, before what ends gives
/// back.
struct step_record {
    double start = 0;     ///< seconds on the simulated clock
    double computing = 0; ///< seconds on the simulated clock
    double managing = 0;  ///< seconds, measured: all verbs of the step
    bool steady = false;  ///< nothing was let in or taken back, and nothing ended: decoding alone
    std::size_t sequences = 0;
    std::size_t tokens = 0;   ///< with KV, of all sequences
    std::size_t distinct = 0; ///< the same with common beginnings counted once
    memory_figures memory;
};

struct run_record {
    std::vector<step_record> steps;
    double seconds = 0; ///< from the start to the last answer, simulated
    std::size_t finished = 0;
    std::size_t refused = 0; ///< too large for the limit, or behind such a turn
    std::size_t preemptions = 0;
    std::size_t prompt_tokens = 0;     ///< of requests let in for the first time
    std::size_t matched_tokens = 0;    ///< of these
    std::size_t recomputed_tokens = 0; ///< computed again after a preemption
    double hidden = 0;                 ///< seconds, measured: what other threads did while the model computed
    std::size_t wrong_rows = 0;        ///< where rows are checked
};

} // namespace vtensor::bench
