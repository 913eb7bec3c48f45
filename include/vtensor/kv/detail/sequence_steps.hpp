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
    using base::known;
    using base::memory;
    using base::most_tokens;
    using typename base::entry;
    using typename base::sequence_type;

    void begin_step() noexcept {
        base::begin();
        ++step_;
        is_ready_ = true;
    }
    /// `count` more tokens. False where it is part of the step already.
    [[nodiscard]] bool add_to_step(sequence_type& one, std::size_t count) noexcept {
        if (std::exchange(one.step, step_) == step_)
            return false;
        is_ready_ = is_ready_ && count <= one.counts.ready() - one.counts.tokens();
        return true;
    }
    /// Adds the tokens to all sequences of the step that still run then, or to none.
    [[nodiscard]] status extend(std::span<const extension> batch) noexcept {
        if (!is_ready_) {
            if (const status outcome = prepare_step(batch); !outcome)
                return outcome;
        }
        const std::size_t half = memory().ahead().is_open() ? memory().options().tokens_ahead / 2 : 0;
        std::size_t added = 0;
        bool is_low = false;
        for (const extension& more : batch) {
            sequence_type& one = known(more.id);
            if (one.state != sequence_state::running)
                continue;
            static_cast<void>(one.counts.try_add(more.tokens.size())); // is ready
            one.tokens.add(more.tokens);
            added += more.tokens.size();
            const std::size_t ready = one.counts.ready();
            is_low = is_low || (ready - one.counts.tokens() < half && ready < most_tokens());
        }
        counters().tokens.add(added);
        if (is_low && !memory().ahead().is_busy())
            map_ahead();
        return {};
    }

  private:
    /// Of a step: what is added to one sequence.
    struct part {
        sequence_type* of;
        std::size_t count; ///< of tokens
    };
    /// Every sequence of the step that still runs has memory for its tokens, or none has changed; what was
    /// mapped for some of them stays mapped ahead. Those that come first are served first; one for which
    /// nothing is left is preempted itself. `out_of_memory` for the list of them.
    [[nodiscard]] status prepare_step(std::span<const extension> step) noexcept {
        batch_.clear();
        try {
            batch_.reserve(step.size());
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::extend, 0, bytes{step.size() * sizeof(part)}};
        }
        for (const extension& one : step)
            batch_.push_back({&known(one.id), one.tokens.size()}); // there is room
        std::sort(batch_.begin(), batch_.end(),
                  [](const part& one, const part& other) { return base::comes_behind(*other.of, *one.of); });
        status outcome;
        bool is_first = true;
        for (const part& one : batch_) {
            if (one.of->state != sequence_state::running)
                continue;
            outcome = prepare(*one.of, one.of->tokens.size() + one.count);
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
    /// Asks for the pages of the next steps, for all sequences that run at once, so that the mapper is woken
    /// seldom; and for room for them, where there is none.
    void map_ahead() noexcept {
        auto& ahead = memory().ahead();
        if (memory().is_limited() && most_wanted_ahead() > memory().available() &&
            !memory().make_room_ahead(wanted_ahead()))
            return ahead.stop();
        ahead.ask();
    }
    /// Without a look at any sequence: no cache needs more pages for its next tokens than an empty one.
    [[nodiscard]] bytes most_wanted_ahead() const noexcept {
        return memory().estimate(0, memory().options().tokens_ahead) * memory().counters().running.get();
    }
    [[nodiscard]] bytes wanted_ahead() const noexcept {
        bytes wanted{0};
        base::for_each_running([&](const sequence_type& one) {
            const std::size_t goal = one.counts.tokens() + memory().options().tokens_ahead;
            wanted += memory().estimate(one.counts.ready(), std::min(goal, most_tokens()));
        });
        return wanted;
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

    std::vector<part> batch_; ///< while memory is found for them
    std::uint64_t step_ = 0;
    bool is_ready_ = true; ///< all of the step so far have their memory
};

} // namespace vtensor::kv::detail
