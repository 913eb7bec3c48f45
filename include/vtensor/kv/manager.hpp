// SPDX-License-Identifier: Apache-2.0
//
// The manager of the vTensor paper (arXiv 2407.15309): a serving engine says create, extend, record, release,
// and always has contiguous tensors. It decides whose memory goes where: a prefix that was recorded is
// mapped into the next sequence that begins with it, the pages of a released sequence serve the next one, the
// pages of the next steps are mapped while a step runs, and when memory is short the least dear is given
// back. How that is carried out is in kv_cache.hpp, prefix_tree.hpp and detail/manager_memory.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/detail/sequence_steps.hpp>
#include <vtensor/kv/kv_cache.hpp>
#include <vtensor/kv/manager_options.hpp>
#include <vtensor/kv/manager_stats.hpp>
#include <vtensor/kv/sequence.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>
#include <vtensor/policy/preemption.hpp>
#include <vtensor/policy/reclaim.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <type_traits>

namespace vtensor::kv {

/// Used by one thread, the scheduler's; `stats()` may be called from anywhere. The pool, and the mapper where
/// there is one, must outlive it. No verb throws. What fails has changed no sequence, unless it says so;
/// caches that no sequence used may be gone.
///
/// Work that uses the rows of a sequence must be done before the sequence is recorded, forked, released,
/// preempted or truncated, unless it is queued on the stream of `set_stream`.
template <class Cache, reclaim_policy Reclaim = reclaim::cheapest_first,
          preemption_policy Preemption = preemption::recompute>
class manager {
    using steps_type = detail::sequence_steps<Cache, Reclaim, Preemption>;
    using sequence = typename steps_type::sequence_type;

  public:
    using cache_type = Cache;
    using pool_type = typename Cache::pool_type;
    using options_type = typename steps_type::options_type;
    using stream_type = typename Cache::stream_type; ///< means nothing where the backend has no streams

    /// `shape.layer.max_rows` is the length of the longest sequence. `invalid_argument` where a size is 0;
    /// `unsupported` where a mapper is given and the pool is for one thread.
    [[nodiscard]] static result<std::unique_ptr<manager>>
    try_create(pool_type& pool, const model_shape& shape, const options_type& options = {},
               const Reclaim& reclaim = {}, const Preemption& preemption = {}) noexcept {
        if (shape.is_empty())
            return error{errc::invalid_argument, verb::construct, 0, bytes{0}};
        if (options.thread != nullptr && std::is_same_v<typename pool_type::mutex_type, no_mutex>)
            return error{errc::unsupported, verb::construct, 0, bytes{0}};
        std::unique_ptr<manager> made{new (std::nothrow) manager{pool, shape, options, reclaim, preemption}};
        if (made == nullptr)
            return error{errc::out_of_memory, verb::construct, 0, bytes{sizeof(manager)}};
        return made;
    }
    manager(const manager&) = delete;
    manager& operator=(const manager&) = delete;
    ~manager() = default;

    /// All work on the rows of all sequences is queued on this stream from now on, and nothing of it needs to
    /// be done when a verb is called, as `kv_cache::set_stream` says: forks and the ends of prefixes are
    /// copied behind it, and the host waits for it where memory is given back or pages are exchanged. It must
    /// outlive the manager.
    void set_stream(const stream_type& stream) noexcept requires Cache::moves_on_streams {
        steps_.memory().set_stream(stream);
    }

    // ---- the life of a sequence ----

    /// A sequence with these tokens. The longest beginning of them that was recorded is not to be computed
    /// again, except the last token, whose output the engine needs. `invalid_argument` for no tokens,
    /// `limit_exceeded` for more than a sequence may have. When memory is short, what the policy allows is
    /// given back first.
    [[nodiscard]] result<placed_sequence> try_create(std::span<const token_id> prompt,
                                                     const sequence_options& options = {}) noexcept {
        detail::timed_call call{steps_.counters(), manager_verb::create};
        steps_.begin();
        if (prompt.empty())
            return refuse(errc::invalid_argument, verb::create);
        if (prompt.size() > steps_.most_tokens())
            return refuse(errc::limit_exceeded, verb::create);
        auto added = steps_.add(prompt, options);
        if (!added)
            return added.status();
        sequence& one = **added;
        if (const status outcome = steps_.place(one); !outcome) {
            steps_.remove(one);
            return outcome;
        }
        call.succeeded();
        return placed_sequence{one.id, one.matched};
    }

    /// One step: adds tokens to each of the sequences, or to none. Those that had to be preempted for the
    /// others are left out and stand in `preempted()`. A step whose memory is mapped costs a few comparisons
    /// a sequence. `not_found` and `busy` (preempted) where a sequence cannot be extended, `invalid_argument`
    /// where one is named twice, `limit_exceeded` where it would be too long.
    [[nodiscard]] status try_extend(std::span<const extension> batch) noexcept {
        detail::timed_call call{steps_.counters(), manager_verb::extend};
        steps_.begin_step();
        for (const extension& one : batch) {
            auto found = running(one.id, verb::extend);
            if (!found)
                return found.status();
            if (!steps_.add_to_step(**found, one.tokens.size()))
                return refuse(errc::invalid_argument, verb::extend);
            if (one.tokens.size() > steps_.most_tokens() - (*found)->tokens.size())
                return refuse(errc::limit_exceeded, verb::extend);
        }
        if (const status outcome = steps_.extend(batch); !outcome)
            return outcome;
        call.succeeded();
        return {};
    }

    /// The tokens that the sequence has now, all of whose rows were written, can be matched from now on by
    /// others of its salt: while it runs on, and after it was released. Where another sequence that begins
    /// alike was recorded first, its pages take the place of this one's, read-only in both, so that the
    /// common beginning is in memory once whenever the two were created (`merges_prefixes`): nothing may be
    /// reading this sequence's rows meanwhile. What is in the way of that is no failure; but where the
    /// backend takes a page and refuses twice to put it back, rows are lost: the sequence is not recorded,
    /// and is to be released, or preempted and computed again. `unsupported` where rows were evicted.
    /// O(tokens + pages in common).
    [[nodiscard]] status try_record(sequence_id id) noexcept {
        detail::timed_call call{steps_.counters(), manager_verb::record};
        auto found = running(id, verb::record);
        if (!found)
            return found.status();
        if (!(*found)->is_whole)
            return refuse(errc::unsupported, verb::record);
        if (steps_.memory().options().shares_prefixes) {
            if (const status outcome = steps_.record(**found); !outcome)
                return outcome;
        }
        call.succeeded();
        return {};
    }

    /// The sequence is over, running or preempted. Its number is not known any more.
    [[nodiscard]] status try_release(sequence_id id) noexcept {
        detail::timed_call call{steps_.counters(), manager_verb::release};
        sequence* const found = steps_.find(id);
        if (found == nullptr)
            return refuse(errc::not_found, verb::release);
        steps_.release(*found);
        call.succeeded();
        return {};
    }

    /// A second sequence with the same tokens and rows, which are in memory once until one of the two writes
    /// them. `busy` where the sequence is preempted.
    [[nodiscard]] result<sequence_id> try_fork(sequence_id id) noexcept {
        detail::timed_call call{steps_.counters(), manager_verb::fork};
        steps_.begin();
        auto found = running(id, verb::fork);
        if (!found)
            return found.status();
        sequence& parent = **found;
        auto added = steps_.add(parent.tokens.view(), parent.options);
        if (!added)
            return added.status();
        sequence& child = **added;
        if (const status outcome = steps_.fork(parent, child); !outcome) {
            steps_.remove(child);
            return outcome;
        }
        call.succeeded();
        return child.id;
    }

    /// The sequence gives its memory up and keeps its tokens. `busy` where it did already.
    [[nodiscard]] status try_preempt(sequence_id id) noexcept {
        detail::timed_call call{steps_.counters(), manager_verb::preempt};
        auto found = running(id, verb::preempt);
        if (!found)
            return found.status();
        steps_.preempt(**found);
        call.succeeded();
        return {};
    }
    /// The sequence runs again. Its rows behind `matched` are to be computed again; there are none where they
    /// were kept. `invalid_argument` where it runs.
    [[nodiscard]] result<placed_sequence> try_resume(sequence_id id) noexcept {
        detail::timed_call call{steps_.counters(), manager_verb::resume};
        steps_.begin();
        sequence* const found = steps_.find(id);
        if (found == nullptr)
            return refuse(errc::not_found, verb::resume);
        if (found->state == sequence_state::running)
            return refuse(errc::invalid_argument, verb::resume);
        if (const status outcome = steps_.resume(*found); !outcome)
            return outcome;
        call.succeeded();
        return placed_sequence{id, found->matched};
    }

    // ---- its tokens and rows ----

    /// The rows of a running sequence, for views; null for another. Valid until the sequence is released or
    /// preempted.
    [[nodiscard]] Cache* cache(sequence_id id) noexcept {
        const auto found = running(id, verb::view);
        return found ? &(*found)->entry->cache : nullptr;
    }
    /// None for a number that is not known.
    [[nodiscard]] std::span<const token_id> tokens(sequence_id id) const noexcept {
        const sequence* const found = steps_.find(id);
        return found != nullptr ? found->tokens.view() : std::span<const token_id>{};
    }
    /// `not_found`.
    [[nodiscard]] result<sequence_state> state(sequence_id id) const noexcept {
        const sequence* const found = steps_.find(id);
        if (found == nullptr)
            return refuse(errc::not_found, verb::query);
        return found->state;
    }
    /// Takes the tokens from `tokens` on back, as after a speculation that failed; what is appended then may
    /// be written. `busy` below what was recorded of it, which others may read; `invalid_argument` for 0.
    [[nodiscard]] status try_truncate(sequence_id id, std::size_t tokens) noexcept {
        steps_.begin();
        auto found = running(id, verb::truncate);
        if (!found)
            return found.status();
        sequence& one = **found;
        if (tokens == 0)
            return refuse(errc::invalid_argument, verb::truncate);
        if (tokens >= one.tokens.size())
            return {};
        if (tokens < one.entry->recorded)
            return refuse(errc::busy, verb::truncate);
        steps_.truncate(one, tokens);
        return {};
    }
    /// The rows of these tokens may be written again although others share them: the sequence gets pages of
    /// its own. `busy` where they are recorded.
    [[nodiscard]] status try_make_writable(sequence_id id, std::size_t first, std::size_t count) noexcept {
        steps_.begin();
        auto found = running(id, verb::make_writable);
        if (!found)
            return found.status();
        if (first < (*found)->entry->recorded && count > 0)
            return refuse(errc::busy, verb::make_writable);
        return steps_.make_writable(**found, first, count);
    }

    /// In every head of every layer all rows die but those in `kept`; the cache's `try_defragment` brings the
    /// others together. If it is preempted, all its rows are to be computed again. `busy` where it is
    /// recorded; otherwise as `kv_cache`.
    [[nodiscard]] status try_evict(sequence_id id, const eviction::kept_rows& kept) noexcept {
        auto found = running(id, verb::evict);
        if (!found)
            return found.status();
        sequence& one = **found;
        if (one.entry->recorded > 0)
            return refuse(errc::busy, verb::evict);
        const status outcome = one.entry->cache.try_evict(kept);
        one.is_whole = one.is_whole && !outcome;
        return outcome;
    }

    /// Sequences that the last call of a verb preempted for the sake of others.
    [[nodiscard]] std::span<const sequence_id> preempted() const noexcept { return steps_.preempted(); }

    // ---- as a whole ----

    /// Sets the pool's limit; what no sequence uses is given back for it. `limit_exceeded`, and the limit as
    /// it was, where sequences have more. 0 removes it.
    [[nodiscard]] status resize_limit(bytes limit) noexcept { return steps_.memory().resize_limit(limit); }

    /// From any thread.
    [[nodiscard]] manager_stats stats() const noexcept { return steps_.memory().stats(); }

    /// Physical memory that sequences can get without one of them giving way: what the limit leaves, what
    /// lazily held caches share with nobody, and what running sequences have mapped ahead of their tokens, as
    /// far as the policy draws on it. For an engine that lets a request in only if it fits. All there can be
    /// where there is no limit; more than is said where caches share pages with each other alone. Waits for
    /// one mapping at most. O(pages lazily held + tensors of running sequences).
    [[nodiscard]] bytes room() noexcept { return steps_.memory().room(); }

    /// What lazily held caches could give back of it, whatever the policy draws on. O(pages lazily held).
    [[nodiscard]] bytes reclaimable() noexcept { return steps_.memory().reclaimable(); }

    /// Checks the book-keeping, O(everything). Waits for what is being mapped ahead.
    [[nodiscard]] bool verify() noexcept {
        steps_.memory().ahead().close();
        const bool sound = steps_.verify();
        steps_.memory().ahead().open();
        return sound;
    }

  private:
    manager(pool_type& pool, const model_shape& shape, const options_type& options, const Reclaim& reclaim,
            const Preemption& preemption) noexcept
        : steps_{pool, shape, options, reclaim, preemption} {}

    [[nodiscard]] static error refuse(errc code, verb during) noexcept {
        return error{code, during, 0, bytes{0}};
    }
    [[nodiscard]] result<sequence*> running(sequence_id id, verb during) const noexcept {
        sequence* const found = steps_.find(id);
        if (found == nullptr)
            return refuse(errc::not_found, during);
        if (found->state != sequence_state::running)
            return refuse(errc::busy, during);
        return found;
    }

    steps_type steps_;
};

} // namespace vtensor::kv
