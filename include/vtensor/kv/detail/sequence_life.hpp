// SPDX-License-Identifier: Apache-2.0
//
// How sequences of a manager come, go, and give way: each operation either does all of it or leaves every
// sequence as it was. The memory that it takes is found by manager_memory.hpp.
#pragma once

#include <vtensor/core/abilities.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/detail/manager_memory.hpp>
#include <vtensor/kv/detail/reserve_more.hpp>
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

template <class Cache, reclaim_policy Reclaim, preemption_policy Preemption>
class sequence_life {
  public:
    using memory_type = manager_memory<Cache, Reclaim>;
    using pool_type = typename memory_type::pool_type;
    using options_type = typename memory_type::options_type;
    using entry = typename memory_type::entry;
    using sequence_type = sequence<Cache>;

    sequence_life(pool_type& pool, const model_shape& shape, const options_type& options,
                  const Reclaim& reclaim, const Preemption& preemption) noexcept
        : table_{shape.layer.max_rows, options.records},
          memory_{pool, shape, options, reclaim},
          preemption_{preemption} {}

    [[nodiscard]] memory_type& memory() noexcept { return memory_; }
    [[nodiscard]] const memory_type& memory() const noexcept { return memory_; }
    [[nodiscard]] manager_counters& counters() noexcept { return memory_.counters(); }
    [[nodiscard]] std::size_t most_tokens() const noexcept { return memory_.shape().layer.max_rows; }
    [[nodiscard]] std::span<const sequence_id> preempted() const noexcept { return preempted_; }

    /// A call begins that may preempt.
    void begin() noexcept { preempted_.clear(); }

    /// A new sequence, preempted so far. `place` is to follow, or `remove`.
    [[nodiscard]] result<sequence_type*> add(std::span<const token_id> tokens,
                                             const sequence_options& options) noexcept {
        try {
            reserve_more(preempted_, table_.size() + 1); // so that noting them cannot fail
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::create, 0, bytes{sizeof(sequence_id)}};
        }
        auto added = table_.add(tokens);
        if (added)
            (*added)->options = options;
        return added;
    }
    void remove(const sequence_type& gone) noexcept { table_.remove(gone.id); }

    /// Gives the sequence a cache with rows for all its tokens: those of the longest recorded prefix, or
    /// those that were kept when it was preempted; the others are to be written.
    [[nodiscard]] status place(sequence_type& one) noexcept {
        const std::size_t all = one.tokens.size();
        result<shared_prefix> prefix = find_prefix(one);
        if (!prefix)
            return prefix.status();
        status outcome;
        entry* at = prefix->donor;
        const bool in_place = is_in_place(at, prefix->tokens);
        if (in_place) {
            memory_.take(*at);
        } else {
            // A prefix takes the place of pages that are there: then none are looked for.
            auto taken =
                memory_.take(one.options.salt, prefix->tokens == 0 ? memory_.estimate(0, all) : bytes{0});
            at = taken ? *taken : nullptr;
            outcome = taken ? share(one, *at, *prefix) : taken.status();
        }
        std::size_t adopted = 0;
        if (outcome) {
            adopted = std::min(at->cache.ready(), all);
            outcome = with_reclaim(one, memory_.estimate(at->cache.ready(), all),
                                   [&] { return at->cache.try_append(all - at->cache.tokens()); });
        }
        if (outcome && !one.rows.empty())
            outcome = at->cache.load(one.rows, all);
        if (!outcome) {
            if (at != nullptr)
                memory_.set_aside(*at);
            unlock(prefix->lock);
            return outcome;
        }
        run(one, *at, prefix->lock);
        one.matched = one.rows.empty() ? prefix->tokens : all;
        one.is_whole = true;
        count_placed(one, in_place || prefix->tokens == 0 ? adopted : 0);
        counters().swapped.subtract(one.rows.size());
        one.rows = {};
        return {};
    }

    /// The child gets the parent's rows.
    [[nodiscard]] status fork(sequence_type& parent, sequence_type& child) noexcept {
        entry* made = nullptr;
        const status outcome = with_reclaim(parent, bytes{0}, [&]() noexcept -> status {
            auto copy = parent.entry->cache.try_fork();
            if (!copy)
                return copy.status();
            auto taken = memory_.take(*std::move(copy), parent.options.salt);
            made = taken ? *taken : nullptr;
            return taken.status();
        });
        if (!outcome)
            return outcome;
        lock_id lock{};
        if (parent.lock != lock_id{}) {
            if (const auto same = memory_.tree().locked(parent.lock)) {
                const auto again = memory_.tree().lock(*same);
                lock = again ? *again : lock_id{}; // a prefix that is not locked is merely evicted sooner
            }
        }
        run(child, *made, lock);
        child.matched = child.tokens.size();
        child.is_whole = parent.is_whole;
        return {};
    }

    /// The tokens so far can be matched. What it needs is taken before anything changes.
    [[nodiscard]] status record(sequence_type& one) noexcept {
        auto& tree = memory_.tree();
        entry& own = *one.entry;
        if (memory_.options().merges_prefixes) { // first: who is superseded may lose his pages below
            if (const status outcome = merge(one); !outcome)
                return outcome;
        }
        const auto inserted = tree.insert(one.options.salt, one.tokens.view(), &own);
        if (!inserted)
            return inserted.status();
        if (inserted->taken)
            own.recorded = one.tokens.size();
        if (inserted->superseded != nullptr)
            memory_.forget_recorded(*inserted->superseded, 0);
        const auto lock = tree.lock(tree.match(one.options.salt, one.tokens.view()));
        if (lock) { // otherwise the older one goes on
            unlock(one.lock);
            one.lock = *lock;
        }
        return {};
    }

    /// The sequence runs no more. Its cache is set aside.
    void leave(sequence_type& one) noexcept {
        one.entry->needed = 0;
        memory_.set_aside(*std::exchange(one.entry, nullptr));
        unlock(std::exchange(one.lock, lock_id{}));
        one.state = sequence_state::preempted;
        counters().running.subtract(1);
        counters().tokens.subtract(one.tokens.size());
    }

    /// The sequence is over.
    void release(sequence_type& one) noexcept {
        if (one.state == sequence_state::running) {
            leave(one);
        } else {
            counters().preempted.subtract(1);
            counters().swapped.subtract(one.rows.size());
        }
        remove(one);
    }
    /// A preempted one runs again.
    [[nodiscard]] status resume(sequence_type& one) noexcept {
        const status outcome = place(one);
        if (outcome)
            counters().preempted.subtract(1);
        return outcome;
    }

    /// As `leave`, and the policy says whether its rows are kept.
    void preempt(sequence_type& one) noexcept {
        memory_.ahead().exclude(*one.entry);
        const preemption_state now{
            .tokens = one.tokens.size(),
            .recorded = one.entry->recorded,
            .rows = memory_.rows_of(one.tokens.size()),
            .can_be_copied = one.is_whole && vtensor::detail::reaches_memory(memory_.pool().backend())};
        if (preemption_.keeps_rows(now))
            keep_rows(one);
        leave(one);
        counters().preempted.add(1);
        counters().preemptions.add(1);
    }

    /// What is appended afterwards gets pages of its own where others share them.
    void truncate(sequence_type& one, std::size_t tokens) noexcept {
        memory_.ahead().exclude(*one.entry);
        one.entry->cache.truncate(tokens);
        memory_.ahead().include(*one.entry);
        counters().tokens.subtract(one.tokens.size() - tokens);
        one.tokens.truncate(tokens);
    }
    [[nodiscard]] status make_writable(sequence_type& one, std::size_t first, std::size_t count) noexcept {
        return with_reclaim(one, bytes{0}, [&] { return one.entry->cache.try_make_writable(first, count); });
    }

    /// Checks the book-keeping, O(everything); nothing may be mapped ahead meanwhile.
    [[nodiscard]] bool verify() const noexcept {
        std::size_t running = 0, tokens = 0;
        bool sound = memory_.verify();
        table_.for_each([&](const sequence_type& one) {
            if (one.state == sequence_state::preempted) {
                sound = sound && one.entry == nullptr && one.lock == lock_id{};
                return;
            }
            ++running;
            tokens += one.tokens.size();
            sound = sound && one.entry->use == cache_use::running && one.rows.empty() &&
                    one.entry->cache.tokens() == one.tokens.size() && one.entry->salt == one.options.salt &&
                    one.entry->recorded <= one.tokens.size();
        });
        return sound && running == memory_.counters().running.get() &&
               tokens == memory_.counters().tokens.get();
    }

    [[nodiscard]] sequence_type* find(sequence_id id) const noexcept { return table_.find(id); }
    /// One that is there.
    [[nodiscard]] sequence_type& known(sequence_id id) const noexcept { return table_[id]; }

  protected:
    template <class Work>
    [[nodiscard]] status with_reclaim(const sequence_type& for_whom, bytes wanted, Work work) noexcept {
        return memory_.with_reclaim(wanted, work, sequences_behind{*this, for_whom, wanted});
    }
    void preempt_for_others(sequence_type& one) noexcept {
        preempt(one);
        preempted_.push_back(one.id); // there is room
    }
    template <class Visit>
    void for_each_running(Visit visit) const {
        table_.for_each([&](sequence_type& one) {
            if (one.state == sequence_state::running)
                visit(one);
        });
    }
    [[nodiscard]] static bool comes_behind(const sequence_type& one, const sequence_type& other) noexcept {
        return one.options.priority != other.options.priority ? one.options.priority < other.options.priority
                                                              : one.order > other.order;
    }

  private:
    struct shared_prefix {
        entry* donor = nullptr;
        std::size_t tokens = 0;
        lock_id lock{};
    };

    /// Whether the sequence continues all that the cache has, and nobody uses it: then it is taken as it is.
    [[nodiscard]] static bool is_in_place(const entry* donor, std::size_t tokens) noexcept {
        return donor != nullptr && donor->use == cache_use::held && donor->recorded == tokens;
    }
    /// The longest recorded prefix that can be shared, locked; none where the rows were kept.
    [[nodiscard]] result<shared_prefix> find_prefix(const sequence_type& one) noexcept {
        if (!memory_.options().shares_prefixes || !one.rows.empty())
            return shared_prefix{};
        auto match = memory_.tree().match(one.options.salt, one.tokens.view());
        match.tokens = std::min(match.tokens, one.tokens.size() - 1);
        if (match.tokens > 0 && !is_in_place(match.holder, match.tokens))
            match.tokens = match.holder->cache.shareable(match.tokens);
        if (match.tokens == 0)
            return shared_prefix{};
        const auto lock = memory_.tree().lock(match);
        if (!lock)
            return lock.status();
        return shared_prefix{match.holder, match.tokens, *lock};
    }
    /// The donor may change while memory is reclaimed; the lock keeps some cache that has the prefix.
    [[nodiscard]] status share(const sequence_type& one, entry& into, shared_prefix& prefix) noexcept {
        if (prefix.tokens == 0)
            return {};
        return with_reclaim(one, bytes{0}, [&]() noexcept -> status {
            const auto found = memory_.tree().locked(prefix.lock);
            if (!found)
                return found.status();
            return into.cache.try_share_prefix_of(found->holder->cache, prefix.tokens);
        });
    }
    /// The pages of tokens that another cache has recorded become that cache's, which came first. Where that
    /// cannot be done the sequence keeps its own. It fails only where rows were lost, because the backend
    /// refused twice to put a page back: then the cache is not used again.
    [[nodiscard]] status merge(sequence_type& one) noexcept {
        Cache& own = one.entry->cache;
        const auto older = memory_.tree().match(one.options.salt, one.tokens.view());
        if (older.tokens == 0 || older.holder == one.entry)
            return {};
        const bytes before = memory_.pool().stats().in_use;
        const status outcome = own.try_merge_prefix_of(older.holder->cache, older.tokens);
        if (memory_.pool().stats().in_use < before)
            memory_.ahead().open(); // there is room again
        if (outcome || own.verify())
            return {};
        one.is_whole = false;
        one.entry->is_broken = true;
        return outcome;
    }
    void unlock(lock_id lock) noexcept {
        if (lock != lock_id{})
            static_cast<void>(memory_.tree().unlock(lock));
    }
    void run(sequence_type& one, entry& at, lock_id lock) noexcept {
        one.entry = &at;
        at.cache.keep_counts_in(&one.counts);
        one.lock = lock;
        one.state = sequence_state::running;
        memory_.ahead().include(at);
        counters().running.add(1);
        counters().tokens.add(one.tokens.size());
    }
    void count_placed(const sequence_type& one, std::size_t adopted) noexcept {
        counters().prompt_tokens.add(one.tokens.size());
        counters().matched_tokens.add(one.matched);
        counters().adopted_tokens.add(adopted);
    }

    /// Where there is no memory for them they are forgotten.
    void keep_rows(sequence_type& one) noexcept {
        Cache& cache = one.entry->cache;
        try {
            one.rows.resize(cache.saved_size().count());
        } catch (const std::bad_alloc&) {
            return;
        }
        if (!cache.save(one.rows))
            one.rows = {};
        counters().swapped.add(one.rows.size());
    }

    /// What may be preempted for a sequence that needs memory.
    struct sequences_behind {
        sequence_life& all;       // NOLINT: lives for one call
        const sequence_type& one; // NOLINT
        bytes wanted;

        template <class Visit>
        void for_each(Visit visit) {
            all.for_each_running([&](sequence_type& other) {
                if (&other != &one && comes_behind(other, one))
                    visit(other);
            });
        }
        [[nodiscard]] bytes mapped() noexcept {
            bytes sum{0};
            for_each([&](sequence_type& other) { sum += other.entry->cache.figures().mapped; });
            return sum;
        }
        /// The youngest of the lowest priority, if all of them together may have what is missing.
        [[nodiscard]] bool preempt_one() noexcept {
            sequence_type* last = nullptr;
            for_each([&](sequence_type& other) {
                if (last == nullptr || comes_behind(other, *last))
                    last = &other;
            });
            // Without a limit everything is available, and adding to it would overflow.
            const bytes available = all.memory_.available();
            if (last == nullptr || (wanted > available && mapped() < wanted - available))
                return false;
            all.preempt_for_others(*last);
            return true;
        }
    };

    sequence_table<Cache> table_; ///< before the caches, which count in it
    memory_type memory_;
    [[no_unique_address]] Preemption preemption_;
    std::vector<sequence_id> preempted_; ///< by the call that runs or ran last
};

} // namespace vtensor::kv::detail
