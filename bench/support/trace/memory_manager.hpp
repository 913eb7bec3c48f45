// SPDX-License-Identifier: Apache-2.0
//
// What the engine of the bench asks of a memory manager for the KV of its sequences. Every manager that is
// compared implements this; the time of the verbs is what is measured.
#pragma once

#include "kv_shape.hpp"
#include "workload.hpp"

#include <vtensor/core/units.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace vtensor::bench {

using sequence_id = std::uint64_t;

/// A sequence that was let in: it has memory for all tokens of its prompt.
struct admission {
    sequence_id sequence = 0;
    std::size_t matched = 0; ///< leading tokens of the prompt whose KV is there already, at most all
};

/// Tokens whose KV is computed in the step: they take the places after those that the sequence has.
struct extension {
    sequence_id sequence = 0;
    std::span<const token_id> tokens; ///< at least one
};

/// Memory at one moment. `held` + `kept` ≤ `physical`.
struct memory_figures {
    bytes physical{}; ///< taken from the system, however it is used
    bytes held{};     ///< what live sequences keep from all others; what several of them share counts once
    bytes kept{};     ///< what no live sequence needs and what is only kept for reuse
};

/// How a manager is made.
struct manager_options {
    kv_shape shape{};
    bytes page{};               ///< smallest piece that is mapped, where the manager maps
    bytes limit{};              ///< physical memory, never exceeded
    std::size_t max_tokens = 1; ///< of one sequence
    std::size_t max_sequences = 1;
    bool prefixes = false;  ///< whether prefixes are found again
    double headroom = 0.01; ///< share of the limit that must stay free behind a `begin`, for growth, unless
                            ///< no sequence lives
};

/// Called by one thread. A refusal (nothing, false) changes nothing that the caller can see; what is only
/// kept for reuse may be gone. Whatever else fails is thrown, and ends the bench.
class memory_manager_under_test {
  public:
    memory_manager_under_test() = default;
    memory_manager_under_test(const memory_manager_under_test&) = delete;
    memory_manager_under_test& operator=(const memory_manager_under_test&) = delete;
    virtual ~memory_manager_under_test() = default;

    [[nodiscard]] virtual std::string name() const = 0;

    // ---- timed ----

    /// Lets a sequence in, or nothing where the memory does not suffice. Prefixes are only found among
    /// requests of the same salt. `prompt` may be read during the call only.
    [[nodiscard]] virtual std::optional<admission> begin(std::span<const token_id> prompt,
                                                         std::uint64_t salt) = 0;
    /// Memory for the tokens of a step, for all of them or for none. Each sequence occurs once at most.
    [[nodiscard]] virtual bool extend(std::span<const extension> batch) = 0;
    /// Takes the memory of a sequence away, and is not asked for its id any more. Its `tokens`, all of which
    /// have KV, will be begun anew.
    virtual void preempt(sequence_id sequence, std::span<const token_id> tokens) = 0;
    /// The sequence is over. Its `tokens`, all of which have KV, may be asked for again where `prefixes` is
    /// set.
    virtual void end(sequence_id sequence, std::span<const token_id> tokens) = 0;

    // ---- not timed ----

    /// The model computes for `seconds` now: what other threads do meanwhile is done before this returns.
    /// Returns the seconds that it took them; what lies beyond `seconds` counts as time of the step.
    [[nodiscard]] virtual double while_computing([[maybe_unused]] double seconds) { return 0; }
    /// O(1), or nearly so: it is called every step.
    [[nodiscard]] virtual memory_figures figures() const = 0;
    /// Where the first layer's key of a token lies. At least 8 bytes; writable for tokens that were neither
    /// matched nor yet followed by an `end`.
    [[nodiscard]] virtual std::byte* key_row(sequence_id sequence, std::size_t token) = 0;
    /// Of the tokens of all sequences that were begun, the share whose pages were mapped already; nothing
    /// where that says nothing.
    [[nodiscard]] virtual std::optional<double> adopted() const { return std::nullopt; }
    /// Checks the manager's own book-keeping.
    [[nodiscard]] virtual bool verify() const { return true; }
};

} // namespace vtensor::bench
