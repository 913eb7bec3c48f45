// SPDX-License-Identifier: Apache-2.0
//
// One step of many sequences: memory for all their tokens, then the tokens, then the wish for the pages of
// the next steps. How one sequence comes and goes is in sequence_life.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/detail/sequence_life.hpp>
#include <vtensor/kv/detail/sequence_table.hpp>
#include <vtensor/kv/sequence.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::kv::detail {

/// `begin_step`, `add_to_step` for each of its sequences, `extend`.
template <class Cache, reclaim_policy Reclaim, preemption_policy Preemption>
class sequence_steps : public sequence_life<Cache, Reclaim, Preemption> {
    using base = sequence_life<Cache, Reclaim, Preemption>;

  public:
    using base::base;
    using base::counters;
    using base::memory;
    using base::most_tokens;
    using typename base::entry;
    using typename base::sequence_type;

    /// `out_of_memory` for the list of its `size` sequences.
    [[nodiscard]] status begin_step(std::size_t size) noexcept {
        base::begin();
        batch_.clear();
        ++step_;
        try {
            batch_.reserve(size);
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::extend, 0, bytes{size * sizeof(part)}};
        }
        return {};
    }
    /// False where it is part of the step already.
    [[nodiscard]] bool add_to_step(sequence_type& one, std::span<const token_id> tokens) noexcept {
        if (std::exchange(one.step, step_) == step_)
            return false;
        batch_.push_back({&one, tokens}); // there is room
        return true;
    }
    /// Adds the tokens to all sequences of the step that still run then, or to none.
    [[nodiscard]] status extend() noexcept {
        const bool is_ready = std::all_of(batch_.begin(), batch_.end(), [](const part& one) {
            return one.of->tokens.size() + one.tokens.size() <= one.of->entry->cache.ready();
        });
        if (!is_ready) {
            if (const status outcome = prepare_step(); !outcome)
                return outcome;
        }
        const std::size_t half = memory().ahead().is_open() ? memory().options().tokens_ahead / 2 : 0;
        std::size_t added = 0;
        bool is_low = false;
        for (const part& one : batch_) {
            if (one.of->state != sequence_state::running)
                continue;
            Cache& cache = one.of->entry->cache;
            static_cast<void>(cache.try_append(one.tokens.size())); // is ready
            one.of->tokens.insert(one.of->tokens.end(), one.tokens.begin(), one.tokens.end());
            added += one.tokens.size();
            is_low =
                is_low || (cache.ready() - one.of->tokens.size() < half && cache.ready() < most_tokens());
        }
        counters().tokens.add(added);
        if (is_low)
            map_ahead();
        return {};
    }

  private:
    /// Of a step: what is added to one sequence.
    struct part {
        sequence_type* of;
        std::span<const token_id> tokens;
    };
    /// Every sequence of the step that still runs has memory for its tokens, or none has changed; what was
    /// mapped for some of them stays mapped ahead. Those that come first are served first; one for which
    /// nothing is left is preempted itself.
    [[nodiscard]] status prepare_step() noexcept {
        std::sort(batch_.begin(), batch_.end(),
                  [](const part& one, const part& other) { return base::comes_behind(*other.of, *one.of); });
        status outcome;
        bool is_first = true;
        for (const part& one : batch_) {
            if (one.of->state != sequence_state::running)
                continue;
            outcome = prepare(*one.of, one.of->tokens.size() + one.tokens.size());
            if (is_shortage(outcome.code()) && !is_first && memory().may_preempt()) {
                base::preempt_for_others(*one.of);
                outcome = {};
            }
            if (!outcome)
                break;
            is_first = false;
        }
        for (const part& one : batch_) {
            if (one.of->entry != nullptr)
                one.of->entry->needed = 0;
        }
        return outcome;
    }
    /// Asks for the pages of the next steps, for all sequences of this one at once, so that the mapper is
    /// woken seldom; and for room for them, where there is none.
    void map_ahead() noexcept {
        auto& ahead = memory().ahead();
        const auto goal = [&](const part& one) {
            return std::min(one.of->tokens.size() + memory().options().tokens_ahead, most_tokens());
        };
        bytes wanted{0};
        for (const part& one : batch_) {
            if (one.of->state == sequence_state::running)
                wanted += memory().estimate(one.of->entry->cache.ready(), goal(one));
        }
        if (!memory().make_room_ahead(wanted))
            return ahead.stop();
        for (const part& one : batch_) {
            if (one.of->state == sequence_state::running && goal(one) > one.of->entry->cache.ready())
                ahead.want(*one.of->entry, goal(one));
        }
        ahead.submit();
    }
    [[nodiscard]] status prepare(sequence_type& one, std::size_t tokens) noexcept {
        Cache& cache = one.entry->cache;
        one.entry->needed = tokens;
        if (tokens <= cache.ready())
            return {};
        return base::with_reclaim(one, memory().estimate(cache.ready(), tokens), [&]() noexcept -> status {
            const status outcome = cache.try_prepare(tokens);
            if (outcome.code() != errc::busy)
                return outcome;
            // Pages that others share come next: appending replaces them.
            const std::size_t before = cache.tokens();
            const status appended = cache.try_append(tokens - before);
            cache.truncate(before);
            return appended;
        });
    }

    std::vector<part> batch_;
    std::uint64_t step_ = 0;
};

} // namespace vtensor::kv::detail
