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
        while (wanted > available() && give_back(state, preempt))
            continue;
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
            const std::optional<reclaim_source> source = reclaim_.next(state);
            if (!source)
                return false;
            const bytes freed = *source == reclaim_source::lazily_held ? leave_oldest_blank()
                                : *source == reclaim_source::prefixes  ? leave_oldest_prefix()
                                : *source == reclaim_source::surplus   ? trim_surplus()
                                                                       : bytes{0};
            if (freed == bytes{0})
                state.exhausted |= bit(*source);
            room += freed;
        }
        return true;
    }
    /// Pages that running sequences have mapped ahead. O(tensors of running sequences).
    [[nodiscard]] bytes mapped_ahead_of_need() noexcept {
        bytes sum{0};
        for (entry& one : shelf().of(cache_use::running)) {
            const cache_figures now = one.cache.figures();
            sum += now.mapped - std::min(now.mapped, now.used + now.part_pages);
        }
        return sum;
    }

    /// Whether the policy takes memory from sequences at all.
    [[nodiscard]] bool may_preempt() const noexcept {
        const reclaim_state nothing_else{.missing = bytes{0}, .exhausted = ~bit(reclaim_source::sequences)};
        return reclaim_.next(nothing_else) == reclaim_source::sequences;
    }

    /// Gives one piece back, of the source that the policy names next. False where there is none left.
    template <class Preempt>
    [[nodiscard]] bool give_back(reclaim_state& state, Preempt preempt) noexcept {
        for (;;) {
            const std::optional<reclaim_source> source = reclaim_.next(state);
            if (!source)
                return false;
            const bool done = *source == reclaim_source::sequences ? preempt() : give_back_from(*source);
            if (!done) {
                state.exhausted |= bit(*source);
                continue;
            }
            if (*source == reclaim_source::sequences) // what it left can be had now
                state.exhausted &= bit(reclaim_source::look_ahead) | bit(reclaim_source::surplus);
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
    /// What was left to the mapper is done here.
    void close_ahead() noexcept {
        ahead().close();
        while (entry* const left = ahead().take_unwanted())
            base::trim(*left);
    }
    /// The same by the mapper: how much that will give back, about.
    [[nodiscard]] bytes leave_to_mapper(entry& one) noexcept {
        const bytes kept = std::min(one.mapped, estimate(0, one.recorded));
        const bytes freed = one.mapped - kept;
        shelf().expect(one, kept);
        ahead().give_back(one, one.recorded);
        return freed;
    }
    [[nodiscard]] bytes leave_oldest_blank() noexcept {
        entry* const oldest = base::oldest_blank();
        return oldest == nullptr ? bytes{0} : leave_to_mapper(*oldest);
    }
    [[nodiscard]] bytes leave_oldest_prefix() noexcept {
        while (entry* const oldest = base::evict_prefix()) {
            const bytes freed = oldest->use == cache_use::running ? bytes{0} : leave_to_mapper(*oldest);
            if (freed != bytes{0})
                return freed;
        }
        return bytes{0};
    }
    /// At most: shared pages count wherever they are mapped, and a page a tensor is for the estimate.
    template <class Sequences>
    [[nodiscard]] bytes could_be_had(Sequences& sequences) noexcept {
        const bytes slack = pool().chunk_size() * (2 * base::shape().layers);
        return available() + shelf().blank() + shelf().held() + mapped_ahead_of_need() + slack +
               (may_preempt() ? sequences.mapped() : bytes{0});
    }

    [[nodiscard]] bool give_back_from(reclaim_source source) noexcept {
        switch (source) {
        case reclaim_source::look_ahead:
            return trim_running();
        case reclaim_source::surplus:
            return trim_surplus() != bytes{0};
        case reclaim_source::lazily_held:
            return trim_oldest_blank();
        case reclaim_source::prefixes:
            return trim_oldest_prefix();
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
    /// Whether anything was unmapped.
    [[nodiscard]] bool trim_running() noexcept {
        const bytes before = pool().stats().in_use;
        for (entry& one : shelf().of(cache_use::running))
            static_cast<void>(one.cache.try_trim(std::max(one.cache.tokens(), one.needed)));
        return pool().stats().in_use < before;
    }
    [[nodiscard]] bool trim_oldest_blank() noexcept {
        entry* const oldest = base::oldest_blank();
        if (oldest == nullptr)
            return false;
        const bytes before = oldest->mapped;
        base::trim(*oldest);
        const bool done = oldest->mapped < before;
        base::drop_spares();
        return done;
    }
    [[nodiscard]] bool trim_oldest_prefix() noexcept {
        entry* const oldest = base::evict_prefix();
        if (oldest != nullptr && oldest->use != cache_use::running)
            base::trim(*oldest);
        base::drop_spares();
        return oldest != nullptr;
    }

    [[no_unique_address]] Reclaim reclaim_;
};

} // namespace vtensor::kv::detail
