// SPDX-License-Identifier: Apache-2.0
//
// What a manager of sequences says of itself. Plain values; as text in stats_text.hpp.
#pragma once

#include <vtensor/core/units.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace vtensor::kv {

/// The verbs of a manager that are counted and timed.
enum class manager_verb : std::uint8_t { create, extend, record, release, fork, preempt, resume };

inline constexpr std::array<std::string_view, 7> manager_verb_names{"create", "extend",  "record", "release",
                                                                    "fork",   "preempt", "resume"};

struct verb_figures {
    std::uint64_t calls = 0;
    std::uint64_t failures = 0;
    std::uint64_t nanoseconds = 0; ///< on the calling thread, all calls together
};

/// Counts since the manager was made, and sizes of now. Each is exact by itself; read while the manager
/// works, they may be of slightly different moments.
struct manager_stats {
    std::size_t running = 0;   ///< sequences
    std::size_t preempted = 0; ///< sequences
    std::size_t tokens = 0;    ///< of running sequences

    bytes reserved{};    ///< addresses of all caches
    bytes mapped{};      ///< pages of all caches, each counted wherever it is mapped
    bytes physical{};    ///< memory behind them
    bytes shared{};      ///< `mapped` − `physical`: what sharing saves
    bytes lazily_held{}; ///< of `mapped`, pages of caches that no sequence runs on
    bytes recorded{};    ///< of `lazily_held`, with rows of a prefix that may be matched
    bytes own{};         ///< keys and values of the tokens of running sequences
    bytes waste{};       ///< of what running sequences have mapped, beyond `own`: part pages and look-ahead
    bytes swapped{};     ///< rows of preempted sequences in the host's memory

    std::uint64_t prompt_tokens = 0;  ///< of sequences created and resumed
    std::uint64_t matched_tokens = 0; ///< of them, found in the prefix tree
    std::uint64_t adopted_tokens =
        0; ///< of them, for which the pages of a released sequence were mapped still
    std::uint64_t preemptions = 0;
    std::uint64_t look_ahead_failures = 0;
    std::array<verb_figures, manager_verb_names.size()> verbs{};

    /// Share of the prompts' tokens that needed no computing.
    [[nodiscard]] constexpr double hit_rate() const noexcept {
        return prompt_tokens == 0 ? 0
                                  : static_cast<double>(matched_tokens) / static_cast<double>(prompt_tokens);
    }
};

} // namespace vtensor::kv
