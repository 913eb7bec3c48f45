// SPDX-License-Identifier: Apache-2.0
//
// What a manager does when memory is short: it gives back what its policy names, at once or ahead of need,
// until there is enough. It knows nothing of sequences but how one of them is preempted, which it is told.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/detail/cache_keeper.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace vtensor::kv::detail {

template <class Cache, reclaim_policy Reclaim>
class manager_memory : public cache_keeper<Cache> {
    using base = cache_keeper<Cache>;

  public:
    using base::ahead;
    using base::available;
    using base::estimate;
    using base::pool;
    using base::shelf;
    using typename base::entry;
    using typename base::options_type;
    using typename base::pool_type;

    manager_memory(pool_type& chunks, const model_shape& model, const options_type& options,
                   const Reclaim& reclaim) noexcept
        : base{chunks, model, options}, reclaim_{reclaim} {}

    using base::take;
    /// A cache for a sequence that will have about `wanted` bytes of its own; see `cache_keeper`.
    [[nodiscard]] result<entry*> take(salt_id salt, bytes wanted) noexcept {
        const reclaim_state state{.missing = wanted, .exhausted = bit(reclaim_source::lazily_held)};
        return base::take(salt, wanted, [&] {
            return reclaim_.next(state) == reclaim_source::surplus && trim_surplus() != bytes{0};
        });
    }
    /// Runs `work`, which needs about `wanted` bytes; where memory is short, gives something back and tries
    /// again, unless all that there is would not do. `sequences` says how much those have that may be
    /// preempted, and preempts one, if there is any.
    template <class Work, class Sequences>
    [[nodiscard]] status with_reclaim(bytes wanted, Work work, Sequences sequences) noexcept {
        if (wanted <= available()) {
            const status outcome = work();
            if (!is_shortage(outcome.code()))
                return outcome;
        } else if (wanted > available() + shelf().blank() + shelf().held() &&
                   wanted > could_be_had(sequences)) {
            return error{errc::limit_exceeded, verb::acquire, 0, wanted};
        }
        close_ahead(); // until a sequence leaves memory behind
        const auto preempt = [&] { return sequences.preempt_one(); };
        reclaim_state state{.missing = wanted, .exhausted = 0};
        for (bytes free = available(); wanted > free; free = available()) {
            state.missing = wanted - free;
            if (!give_back(state, preempt))
                break;
        }
        state.missing = bytes{0}; // whatever is missing then
        status outcome = work();
        while (is_shortage(outcome.code()) && give_back(state, preempt))
            outcome = work();
        return outcome;
    }
    /// Has the mapper give back what no sequence uses, until `wanted` bytes can be mapped. False where that
    /// is not to be had.
    [[nodiscard]] bool make_room_ahead(bytes wanted) noexcept {
        bytes room = available();
        reclaim_state state{.missing = wanted,
                            .exhausted = bit(reclaim_source::look_ahead) | bit(reclaim_source::sequences)};
        while (wanted > room) {
            state.missing = wanted - room;
            const std::optional<reclaim_source> source = reclaim_.next(state);
            if (!source)
                return false;
            const bytes freed = *source == reclaim_source::lazily_held ? leave_empty_pages(state.missing)
                                : *source == reclaim_source::prefixes  ? leave_oldest_prefix(state.missing)
                                : *source == reclaim_source::surplus   ? trim_surplus()
                                                                       : bytes{0};
            note_given(state, *source, freed != bytes{0});
            room += freed;
        }
        return true;
    }
    /// See the manager.
    [[nodiscard]] bytes room() noexcept {
        if (!base::is_limited())
            return available();
        return ahead().while_still([&]() noexcept {
            bytes sum = available();
            const auto idle = base::idle();
            if (draws_on(reclaim_source::lazily_held))
                sum += idle.empty;
            if (draws_on(reclaim_source::prefixes))
                sum += idle.recorded;
            if (draws_on(reclaim_source::look_ahead))
                sum += base::mapped_ahead_of_need();
            return sum;
        });
    }

    /// Whether the policy takes memory from sequences at all.
    [[nodiscard]] bool may_preempt() const noexcept { return draws_on(reclaim_source::sequences); }

    /// Gives one piece back, of the source that the policy names next. False where there is none left.
    template <class Preempt>
    [[nodiscard]] bool give_back(reclaim_state& state, Preempt preempt) noexcept {
        for (;;) {
            const std::optional<reclaim_source> source = reclaim_.next(state);
            if (!source)
                return false;
            const bool done =
                *source == reclaim_source::sequences ? preempt() : give_back_from(*source, state.missing);
            note_given(state, *source, done);
            if (done)
                return true;
        }
    }

    [[nodiscard]] status resize_limit(bytes limit) noexcept {
        close_ahead();
        reclaim_state state;
        status outcome = pool().resize_limit(limit);
        while (outcome.code() == errc::limit_exceeded && give_back(state, [] { return false; }))
            outcome = pool().resize_limit(limit);
        ahead().open();
        return outcome;
    }

  private:
    [[nodiscard]] static constexpr std::uint32_t bit(reclaim_source source) noexcept {
        return 1u << static_cast<unsigned>(source);
    }
    /// Whether the policy ever names this source.
    [[nodiscard]] bool draws_on(reclaim_source source) const noexcept {
        return reclaim_.next({.missing = bytes{0}, .exhausted = ~bit(source)}) == source;
    }
    /// Whether a source is to be asked again: not where it had nothing, unless others have left it something
    /// since.
    static void note_given(reclaim_state& state, reclaim_source source, bool something) noexcept {
        if (!something)
            state.exhausted |= bit(source);
        else if (source == reclaim_source::prefixes) // only as many of its pages went as were missing
            state.exhausted &= ~bit(reclaim_source::lazily_held);
        else if (source == reclaim_source::sequences)
            state.exhausted &= bit(reclaim_source::look_ahead) | bit(reclaim_source::surplus);
    }
    /// What the mapper was to give back for the sake of the next tokens stays.
    void close_ahead() noexcept {
        ahead().close();
        ahead().forget_unwanted();
        shelf().recount_expected();
    }
    /// For so many tokens a cache keeps pages if it is to give `missing` bytes back, or all that it can
    /// spare: no more than are needed, as the others serve the next sequence. 0 missing: it is not known how
    /// much.
    [[nodiscard]] std::size_t tokens_kept(const entry& one, bytes missing) const noexcept {
        if (missing == bytes{0} || missing >= one.empty)
            return one.recorded;
        std::size_t least = one.recorded;
        for (std::size_t most = base::shape().layer.max_rows; least < most;) {
            const std::size_t middle = most - (most - least) / 2;
            if (estimate(0, middle) + missing <= one.mapped)
                least = middle;
            else
                most = middle - 1;
        }
        return least;
    }
    /// The same by the mapper: how much that will give back.
    [[nodiscard]] bytes leave_to_mapper(entry& one, bytes missing) noexcept {
        const std::size_t kept = tokens_kept(one, missing);
        const bytes freed = kept == one.recorded
                                ? one.empty
                                : std::min(one.empty, one.mapped - std::min(one.mapped, estimate(0, kept)));
        shelf().expect_without(one, freed);
        ahead().give_back(one, kept);
        return freed;
    }
    [[nodiscard]] bytes leave_empty_pages(bytes missing) noexcept {
        entry* const first = base::first_with_empty_pages();
        return first == nullptr ? bytes{0} : leave_to_mapper(*first, missing);
    }
    [[nodiscard]] bytes leave_oldest_prefix(bytes missing) noexcept {
        while (entry* const oldest = base::evict_prefix()) {
            const bytes freed =
                oldest->use == cache_use::running ? bytes{0} : leave_to_mapper(*oldest, missing);
            if (freed != bytes{0})
                return freed;
        }
        return bytes{0};
    }
    /// At most: shared pages count wherever they are mapped, and what one token takes is for the estimate.
    template <class Sequences>
    [[nodiscard]] bytes could_be_had(Sequences& sequences) noexcept {
        const bytes idle = ahead().while_still([&]() noexcept {
            return available() + base::mapped_by(cache_use::blank) + base::mapped_by(cache_use::held) +
                   base::mapped_ahead_of_need();
        });
        return idle + estimate(0, 1) + (may_preempt() ? sequences.mapped() : bytes{0});
    }

    [[nodiscard]] bool give_back_from(reclaim_source source, bytes missing) noexcept {
        switch (source) {
        case reclaim_source::look_ahead:
            return trim_running(missing);
        case reclaim_source::surplus:
            return trim_surplus() != bytes{0};
        case reclaim_source::lazily_held:
            return trim_empty_pages(missing);
        case reclaim_source::prefixes:
            return trim_oldest_prefix(missing);
        case reclaim_source::sequences:
            break;
        }
        return false;
    }
    /// Of the first running sequence that has pages beyond its next tokens; how much was unmapped.
    [[nodiscard]] bytes trim_surplus() noexcept {
        for (entry& one : shelf().of(cache_use::running)) {
            const std::size_t kept = std::max(one.cache.tokens() + base::options().tokens_ahead, one.needed);
            if (estimate(kept, one.cache.ready()) == bytes{0})
                continue;
            const bytes before = pool().stats().in_use;
            static_cast<void>(one.cache.try_trim(kept));
            const bytes after = pool().stats().in_use;
            if (after < before)
                return before - after;
        }
        return bytes{0};
    }
    /// Until `missing` bytes were unmapped, or all that is mapped ahead where it is not known how much is
    /// missing. Whether anything was.
    [[nodiscard]] bool trim_running(bytes missing) noexcept {
        const bytes before = pool().stats().in_use;
        bytes now = before;
        for (entry& one : shelf().of(cache_use::running)) {
            static_cast<void>(one.cache.try_trim(std::max(one.cache.tokens(), one.needed)));
            now = pool().stats().in_use;
            if (missing != bytes{0} && now + missing <= before)
                break;
        }
        return now < before;
    }
    [[nodiscard]] bool trim_empty_pages(bytes missing) noexcept {
        entry* const first = base::first_with_empty_pages();
        if (first == nullptr)
            return false;
        const bytes before = first->mapped;
        base::trim(*first, tokens_kept(*first, missing));
        if (first->mapped == before) // the estimate was too low
            base::trim(*first, first->recorded);
        const bool done = first->mapped < before;
        base::drop_spares();
        return done;
    }
    [[nodiscard]] bool trim_oldest_prefix(bytes missing) noexcept {
        entry* const oldest = base::evict_prefix();
        if (oldest != nullptr && oldest->use != cache_use::running)
            base::trim(*oldest, tokens_kept(*oldest, missing));
        base::drop_spares();
        return oldest != nullptr;
    }

    [[no_unique_address]] Reclaim reclaim_;
};

} // namespace vtensor::kv::detail
