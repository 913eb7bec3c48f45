// SPDX-License-Identifier: Apache-2.0
//
// One step of a prefix tree and its model, chosen by numbers that come from anywhere: a random generator, or
// a fuzzer.
#pragma once

#include "model.hpp"

#include <cstddef>
#include <deque>
#include <optional>

namespace vtensor::testing {

/// What a run keeps between its steps.
struct model_run {
    struct earlier_match {
        modelled_tree::tree_type::match_type match;
        kv::salt_id salt{};
        token_string string;
        std::size_t removals = 0;
    };

    modelled_tree both;
    std::deque<earlier_match> matches; ///< some of them stale
    std::deque<kv::lock_id> locks;     ///< some of them gone
    std::size_t alphabet = 3;
    std::size_t longest = 10;
    std::size_t most_nodes = 40;
    std::size_t holders = 24;
    std::size_t most_locks = 8;

    /// `next(n)` answers 0 … n − 1.
    template <class Next>
    void step(Next&& next) {
        const auto salt = static_cast<kv::salt_id>(next(8) == 0 ? 1 : 0);
        const std::size_t verb = next(16);
        if (both.tree.nodes() > most_nodes)
            return both.evict();
        if (verb < 5)
            return both.insert(salt, string(next), static_cast<int>(next(holders)));
        if (verb < 8)
            return match(salt, string(next));
        if (verb < 10)
            return lock(next);
        if (verb < 12)
            return unlock(next);
        if (verb < 13)
            return both.look_at_lock(a_lock(next));
        if (verb < 14)
            return both.remove(static_cast<int>(next(holders)), next(2) == 0 ? kv::lock_id{} : a_lock(next));
        both.evict();
    }

  private:
    /// A string of the tree, cut short and then longer.
    template <class Next>
    token_string string(Next&& next) {
        token_string made;
        if (next(4) != 0) {
            made = both.any(next(64));
            made.resize(next(2) == 0 ? made.size() : next(made.size() + 1));
        }
        const std::size_t more = next(longest) / (made.empty() ? 1 : 3);
        for (std::size_t index = 0; index < more; ++index)
            made.push_back(static_cast<kv::token_id>(next(alphabet)) - 1);
        return made;
    }
    template <class Next>
    kv::lock_id a_lock(Next&& next) {
        return locks.empty() ? kv::lock_id{12345} : locks[next(locks.size())];
    }
    void match(kv::salt_id salt, const token_string& wanted) {
        matches.push_front({both.match(salt, wanted), salt, wanted, both.removals()});
        if (matches.size() > 4)
            matches.pop_back();
    }
    template <class Next>
    void lock(Next&& next) {
        if (matches.empty() || next(2) == 0)
            match(kv::salt_id{}, string(next));
        const earlier_match& of = matches[next(2) * next(matches.size())];
        const std::size_t tokens = next(3) == 0 ? next(of.match.tokens + 1) : of.match.tokens;
        const auto made = both.lock(of.match, of.salt, of.string, tokens, of.removals != both.removals());
        if (made)
            locks.push_front(*made);
        if (locks.size() > most_locks)
            unlock([](std::size_t count) { return count - 1; });
    }
    template <class Next>
    void unlock(Next&& next) {
        if (locks.empty())
            return both.unlock(kv::lock_id{0});
        const std::size_t which = next(locks.size());
        both.unlock(locks[which]); // it stays in the list now and then, to be unlocked once more
        if (which % 3 != 0 || locks.size() > most_locks)
            locks.erase(locks.begin() + static_cast<std::ptrdiff_t>(which));
    }
};

} // namespace vtensor::testing
