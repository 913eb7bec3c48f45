// SPDX-License-Identifier: Apache-2.0
//
// A prefix tree beside a model of it that keeps whole strings and looks through all of them. Every verb runs
// on both; what differs is thrown as std::logic_error.
#pragma once

#include <vtensor/kv/prefix_tree.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace vtensor::testing {

using token_string = std::vector<kv::token_id>;

class modelled_tree {
  public:
    using tree_type = kv::prefix_tree<int>;

    tree_type tree;

    /// How often what is rare has happened, so that a test can say that it did.
    struct occurrences {
        std::size_t superseded = 0;
        std::size_t extended = 0;   ///< a holder that was there got more tokens
        std::size_t lock_cuts = 0;  ///< a lock in the middle of an edge
        std::size_t cut_locked = 0; ///< an insertion in the middle of an edge that is locked
        std::size_t left = 0;       ///< an eviction after which the holder is still needed
        std::size_t inherited = 0;  ///< and one after which another stands for what is above
        std::size_t busy = 0;
        std::size_t removed = 0;
    } seen;

    tree_type::match_type match(kv::salt_id salt, const token_string& string) {
        const std::size_t expected = common(salt, string);
        const auto got = tree.match(salt, string);
        require(got.tokens == expected, "match: tokens");
        check_holder(got.holder, salt, beginning(string, expected), "match");
        touch(salt, string, expected);
        check();
        return got;
    }

    void insert(kv::salt_id salt, const token_string& string, int holder) {
        const std::size_t known = common(salt, string);
        const auto own = holders_.find(holder);
        const bool is_own = own != holders_.end();
        const bool fits = !is_own || string.empty() ||
                          (own->second.salt == salt && (begins_with(own->second.string, string) ||
                                                        begins_with(string, own->second.string)));
        const auto got = tree.insert(salt, string, holder);
        if (holder == 0 || !fits) {
            require(got.code() == errc::invalid_argument, "insert: refusal");
            return check();
        }
        require(got.ok(), "insert: success");
        if (known == string.size()) {
            require(got->new_tokens == 0 && got->taken == is_own && got->superseded == 0, "insert: covered");
            touch(salt, string, known);
            return check();
        }
        seen.extended += is_own ? 1u : 0u;
        if (known > 0 && !nodes_.contains({salt, beginning(string, known)}))
            seen.cut_locked += is_pinned(*covering(salt, string, known)) ? 1u : 0u;
        cut(salt, string, known);
        int superseded = 0;
        const place above{salt, beginning(string, known)};
        for (const auto& [other, where] : holders_)
            if (where == above && other != holder)
                superseded = other;
        require(got->new_tokens == string.size() - known && got->taken, "insert: taken");
        require(got->superseded == superseded, "insert: superseded");
        seen.superseded += holders_.erase(superseded);
        nodes_[{salt, string}] = 0;
        holders_[holder] = {salt, string};
        touch(salt, string, string.size());
        check();
    }

    /// Locks the first `tokens` of a string that was matched; `is_stale` where something has gone since.
    std::optional<kv::lock_id> lock(tree_type::match_type match, kv::salt_id salt, const token_string& string,
                                    std::size_t tokens, bool is_stale) {
        match.tokens = tokens;
        const auto got = tree.lock(match);
        if (is_stale) {
            require(got.code() == errc::not_found, "lock: stale");
            check();
            return std::nullopt;
        }
        require(got.ok(), "lock: success");
        require(!locks_.contains(*got), "lock: a number used twice");
        seen.lock_cuts += tokens > 0 && !nodes_.contains({salt, beginning(string, tokens)}) ? 1u : 0u;
        cut(salt, string, tokens);
        locks_[*got] = {salt, beginning(string, tokens)};
        check();
        return *got;
    }

    void unlock(kv::lock_id id) {
        const status got = tree.unlock(id);
        require(got.code() == (locks_.contains(id) ? errc::ok : errc::not_found), "unlock");
        drop(id);
        check();
    }

    void look_at_lock(kv::lock_id id) {
        const auto got = tree.locked(id);
        const auto entry = locks_.find(id);
        if (entry == locks_.end()) {
            require(got.code() == errc::not_found, "locked: no such lock");
        } else {
            require(got.ok() && got->tokens == entry->second.string.size(), "locked: tokens");
            check_holder(got->holder, entry->second.salt, entry->second.string, "locked");
        }
        check();
    }

    void evict() {
        std::optional<place> oldest;
        for (const auto& [where, used] : nodes_)
            if (is_leaf(where) && !is_pinned(where) && (!oldest || used < nodes_.at(*oldest)))
                oldest = where;
        const auto expected = tree.least_recent();
        const auto got = tree.evict_least_recent();
        require(got.has_value() == oldest.has_value(), "evict: whether there is something");
        require(expected.has_value() == got.has_value(), "least_recent: whether there is something");
        if (got) {
            const auto owner = holder_at(*oldest);
            const place above = parent_of(*oldest);
            require(got->holder == owner, "evict: the leaf used longest ago");
            require(got->tokens_gone == oldest->string.size() - above.string.size(), "evict: tokens gone");
            require(expected->holder == got->holder && expected->tokens_left == got->tokens_left &&
                        expected->tokens_gone == got->tokens_gone,
                    "least_recent says what evict does");
            require(got->tokens_left == forget(*oldest), "evict: tokens left");
            ++removals_;
            seen.left += got->tokens_left > 0 ? 1u : 0u;
            seen.inherited += got->tokens_left == 0 && !above.string.empty() ? 1u : 0u;
        }
        check();
    }

    void remove(int holder, kv::lock_id own = {}) {
        const auto got = tree.remove(holder, own);
        if (!holders_.contains(holder) || (own != kv::lock_id{} && !locks_.contains(own))) {
            require(got.code() == errc::not_found, "remove: unknown");
            return check();
        }
        std::vector<place> going{holders_.at(holder)};
        while (children_of(parent_of(going.back())) == 1 && !parent_of(going.back()).string.empty())
            going.push_back(parent_of(going.back()));
        for (const auto& [id, where] : locks_) {
            if (id != own && std::find(going.begin(), going.end(), where) != going.end()) {
                require(got.code() == errc::busy, "remove: locked");
                ++seen.busy;
                return check();
            }
        }
        drop(own);
        std::size_t tokens = going.front().string.size() - parent_of(going.back()).string.size();
        require(got.ok() && *got == tokens, "remove: tokens");
        for (const place& where : going)
            forget(where);
        ++removals_;
        ++seen.removed;
        check();
    }

    /// How often something went: a match from before is stale.
    [[nodiscard]] std::size_t removals() const { return removals_; }
    [[nodiscard]] std::size_t holders() const { return holders_.size(); }
    /// Some string of the tree, or an empty one.
    [[nodiscard]] token_string any(std::size_t choice) const {
        if (nodes_.empty())
            return {};
        return std::next(nodes_.begin(), static_cast<std::ptrdiff_t>(choice % nodes_.size()))->first.string;
    }

  private:
    struct place {
        kv::salt_id salt{};
        token_string string;

        friend auto operator<=>(const place&, const place&) = default;
    };

    static void require(bool holds, const char* what) {
        if (!holds)
            throw std::logic_error{what};
    }
    static bool begins_with(const token_string& string, const token_string& start) {
        return start.size() <= string.size() && std::equal(start.begin(), start.end(), string.begin());
    }
    static token_string beginning(const token_string& string, std::size_t count) {
        return {string.begin(), string.begin() + static_cast<std::ptrdiff_t>(count)};
    }

    [[nodiscard]] std::size_t common(kv::salt_id salt, const token_string& string) const {
        std::size_t most = 0;
        for (const auto& [where, used] : nodes_) {
            const auto ends =
                std::mismatch(where.string.begin(), where.string.end(), string.begin(), string.end());
            if (where.salt == salt)
                most = std::max(most, static_cast<std::size_t>(ends.second - string.begin()));
        }
        return most;
    }
    /// The shortest node that the first `count` tokens lead to or into.
    [[nodiscard]] std::optional<place> covering(kv::salt_id salt, const token_string& string,
                                                std::size_t count) const {
        std::optional<place> found;
        const token_string start = beginning(string, count);
        for (const auto& [where, used] : nodes_)
            if (where.salt == salt && begins_with(where.string, start) &&
                (!found || where.string.size() < found->string.size()))
                found = where;
        return found;
    }
    void touch(kv::salt_id salt, const token_string& string, std::size_t count) {
        ++time_;
        if (count == 0)
            return;
        const place last = *covering(salt, string, count);
        for (auto& [where, used] : nodes_)
            if (where.salt == salt && begins_with(last.string, where.string))
                used = time_;
    }
    void cut(kv::salt_id salt, const token_string& string, std::size_t count) {
        if (count > 0)
            nodes_.try_emplace({salt, beginning(string, count)}, nodes_.at(*covering(salt, string, count)));
    }
    /// With no string where there is none.
    [[nodiscard]] place parent_of(const place& of) const {
        place above = of;
        while (!above.string.empty()) {
            above.string.pop_back();
            if (nodes_.contains(above))
                break;
        }
        return above;
    }
    [[nodiscard]] std::size_t children_of(const place& of) const {
        std::size_t count = 0;
        for (const auto& [where, used] : nodes_)
            count += parent_of(where) == of ? 1u : 0u;
        return count;
    }
    [[nodiscard]] bool is_leaf(const place& of) const {
        const auto next = nodes_.upper_bound(of); // what begins with it comes at once behind it
        return next == nodes_.end() || next->first.salt != of.salt ||
               !begins_with(next->first.string, of.string);
    }
    [[nodiscard]] bool is_pinned(const place& of) const {
        return std::any_of(locks_.begin(), locks_.end(), [&](const auto& entry) {
            return entry.second.salt == of.salt && begins_with(entry.second.string, of.string);
        });
    }
    [[nodiscard]] int holder_at(const place& leaf) const {
        for (const auto& [holder, where] : holders_)
            if (where == leaf)
                return holder;
        return 0;
    }
    /// The leaf goes. How many tokens of its holder are still needed.
    std::size_t forget(const place& leaf) {
        const place above = parent_of(leaf);
        const int holder = holder_at(leaf);
        nodes_.erase(place{leaf});
        if (!above.string.empty() && is_leaf(above)) {
            holders_[holder] = above;
            return above.string.size();
        }
        holders_.erase(holder);
        return 0;
    }
    void drop(kv::lock_id id) {
        std::vector<place> pinned;
        for (const auto& [where, used] : nodes_)
            if (is_pinned(where))
                pinned.push_back(where);
        locks_.erase(id);
        ++time_;
        for (const place& where : pinned)
            if (!is_pinned(where))
                nodes_.at(where) = time_;
    }

    void check_holder(int holder, kv::salt_id salt, const token_string& start, const char* verb) const {
        const std::string what = std::string{verb} + ": the holder covers the tokens";
        if (start.empty())
            return require(holder == 0, what.c_str());
        const auto found = holders_.find(holder);
        require(found != holders_.end() && found->second.salt == salt &&
                    begins_with(found->second.string, start),
                what.c_str());
    }
    void check() {
        std::size_t tokens = 0, locked = 0, leaves = 0;
        for (const auto& [where, used] : nodes_) {
            const std::size_t edge = where.string.size() - parent_of(where).string.size();
            tokens += edge;
            locked += is_pinned(where) ? edge : 0;
            leaves += is_leaf(where) ? 1u : 0u;
        }
        const auto figures = tree.figures();
        require(figures.tokens == tokens && tree.tokens() == tokens, "figures: tokens");
        require(figures.locked_tokens == locked, "figures: locked tokens");
        require(figures.nodes == nodes_.size() && tree.nodes() == nodes_.size(), "figures: nodes");
        require(figures.holders == holders_.size() && leaves == holders_.size(), "figures: holders");
        require(figures.locks == locks_.size(), "figures: locks");
        for (const auto& [holder, end] : holders_) {
            place at = end;
            while (!at.string.empty() && !is_pinned(at))
                at = parent_of(at);
            const auto found = tree.locked_of(holder);
            require(found.tokens == at.string.size(), "locked tokens of a holder");
            check_holder(found.holder, at.salt, at.string, "locked of a holder");
        }
        require(tree.locked_of(0).tokens == 0, "locked tokens of no holder");
        require(tree.verify(), "verify");
    }

    std::map<place, std::uint64_t> nodes_; ///< and when each was used last
    std::map<int, place> holders_;
    std::map<kv::lock_id, place> locks_;
    std::uint64_t time_ = 0;
    std::size_t removals_ = 0;
};

} // namespace vtensor::testing
