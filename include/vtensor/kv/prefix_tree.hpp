// SPDX-License-Identifier: Apache-2.0
//
// Which beginnings of token strings are in some cache already: a radix tree over tokens. It knows tokens and
// holders (what the caller calls his caches); it owns no cache and never touches memory of one.
//
// What always holds, and `verify()` checks:
//   1. Every edge has a token; the edges below a node begin with different tokens (below the root: different
//      pairs of salt and token).
//   2. Holders and leaves belong to each other one to one: a holder's rows are the tokens from the root to
//      its leaf.
//   3. For every node above a leaf one of the holders below it stands, the same one as for one of its
//      children.
//   4. A node is pinned while a lock holds it or something below it. Nodes that are not pinned stand in the
//      order of their use, each behind all that is below it: the first one is a leaf.
// Nodes are cut where strings part and where a lock holds; they are never joined again.
#pragma once

#include <vtensor/core/error.hpp>
#include <vtensor/kv/detail/holder_record.hpp>
#include <vtensor/kv/detail/prefix_locks.hpp>
#include <vtensor/kv/detail/prefix_paths.hpp>
#include <vtensor/kv/detail/token_run.hpp>
#include <vtensor/kv/prefix_types.hpp>
#include <vtensor/kv/token.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <utility>

namespace vtensor::kv {

/// Used by one thread at a time, neither copied nor moved. No verb throws; what fails has changed nothing,
/// the order of use included. Besides the costs that are given, whatever takes a holder or a lock by its
/// value looks it up in O(log of their number).
template <cache_holder Holder>
class prefix_tree {
  public:
    using holder_type = Holder;
    using match_type = prefix_match<Holder>;

    prefix_tree() noexcept = default;
    prefix_tree(const prefix_tree&) = delete;
    prefix_tree& operator=(const prefix_tree&) = delete;

    /// The longest beginning of the string that was inserted with the same salt, be it a beginning of a
    /// longer one; the path to it counts as used now. O(tokens matched + log children at every node on the
    /// way).
    [[nodiscard]] match_type match(salt_id salt, std::span<const token_id> string) noexcept {
        const place found = paths_.find(salt, string);
        paths_.touch(*found.at);
        return match_of(found);
    }

    /// The tokens of the match stay until they are unlocked, whoever else locks or unlocks them. `not_found`
    /// where something was evicted or removed since the match; `invalid_argument` where its tokens were
    /// raised; `out_of_memory`. O(nodes of the path that were not locked).
    [[nodiscard]] result<lock_id> lock(const match_type& match) noexcept {
        if (match.at_ == nullptr || match.removals_ != removals_)
            return error{errc::not_found, verb::lock, 0, bytes{0}};
        place where{match.at_, match.tokens};
        if (where.tokens > where.at->end)
            return error{errc::invalid_argument, verb::lock, 0, bytes{where.tokens}};
        while (where.at != &paths_.root() && where.tokens <= where.at->start())
            where.at = where.at->parent;
        auto entry = make<detail::prefix_lock<node>>();
        auto upper = where.is_inside() ? make<node>() : nullptr;
        if (entry == nullptr || (where.is_inside() && upper == nullptr))
            return error{errc::out_of_memory, verb::lock, 0, bytes{sizeof(node)}};
        node& held = paths_.cut(where, std::move(upper));
        paths_.pin(held);
        return locks_.add(std::move(entry), held);
    }
    /// What no other lock holds may be evicted again, and counts as used now. `not_found` where there is no
    /// such lock. O(nodes of the path that are no longer locked).
    [[nodiscard]] status unlock(lock_id id) noexcept {
        detail::prefix_lock<node>* const entry = locks_.find(id);
        if (entry == nullptr)
            return error{errc::not_found, verb::unlock, 0, bytes{0}};
        paths_.unpin(*entry->node);
        locks_.erase(*entry);
        return {};
    }
    /// The match that a lock keeps, with a holder that covers it now: the one of the match itself may have
    /// been evicted, superseded or removed since. `not_found` where there is no such lock.
    [[nodiscard]] result<match_type> locked(lock_id id) noexcept {
        const detail::prefix_lock<node>* const entry = locks_.find(id);
        if (entry == nullptr)
            return error{errc::not_found, verb::lock, 0, bytes{0}};
        return match_of({entry->node, entry->node->end});
    }

    /// How many of the holder's tokens are locked, from the first, and the holder that stands for these
    /// tokens now: where all is evicted that may be, one of those that have them stays. Nothing where none is
    /// locked or the tree has no such holder. O(nodes of its path that are not locked).
    [[nodiscard]] locked_beginning<Holder> locked_of(const Holder& holder) noexcept {
        const record* const known = find(holder);
        node* at = known == nullptr ? &paths_.root() : known->leaf;
        while (at->pins == 0 && at->parent != nullptr)
            at = at->parent;
        if (at == &paths_.root())
            return {};
        return {at->end, at->mark.live().holder};
    }

    /// `holder` has rows for the whole string. Where that adds something it is taken, and keeps the string's
    /// end in the tree; the path counts as used now in any case. A holder that the tree has already may be
    /// inserted again with more tokens; `invalid_argument` where neither of its two strings begins with the
    /// other, or the holder is none; `out_of_memory`. O(tokens + log children at every node on the way), and
    /// for a holder that is in the tree O(nodes of its path).
    [[nodiscard]] result<prefix_insertion<Holder>> insert(salt_id salt, std::span<const token_id> string,
                                                          const Holder& holder) noexcept {
        const place found = paths_.find(salt, string);
        const bool covered = found.tokens == string.size();
        record* own = find(holder);
        if (holder == Holder{} || (own != nullptr && !fits(*own, found, covered)))
            return error{errc::invalid_argument, verb::insert, 0, bytes{0}};
        if (covered) {
            paths_.touch(*found.at);
            return prefix_insertion<Holder>{.taken = own != nullptr};
        }
        auto fresh = own == nullptr ? make<record>() : nullptr;
        auto upper = found.is_inside() ? make<node>() : nullptr;
        auto leaf = make<node>();
        if (leaf != nullptr)
            leaf->edge = detail::token_run::copy_of(string.subspan(found.tokens));
        if ((own == nullptr && fresh == nullptr) || (found.is_inside() && upper == nullptr) ||
            leaf == nullptr || leaf->edge.size() == 0)
            return error{errc::out_of_memory, verb::insert, 0, bytes{string.size_bytes()}};

        prefix_insertion<Holder> done{.new_tokens = leaf->edge.size(), .taken = true};
        if (own == nullptr) {
            own = fresh.release();
            own->holder = holder;
            holders_.insert(*own);
        }
        leaf->mark = reference{*own};
        node& above = paths_.cut(found, std::move(upper));
        if (above.is_leaf() && &above != &paths_.root() && own->leaf != &above)
            done.superseded = retire(above.mark.live(), leaf->mark);
        own->leaf = leaf.get();
        paths_.add(above, salt, std::move(leaf));
        return done;
    }

    /// What `evict_least_recent` would take; nothing where all is locked. O(1).
    [[nodiscard]] std::optional<prefix_eviction<Holder>> least_recent() const noexcept {
        const node* const oldest = paths_.oldest();
        if (oldest == nullptr)
            return std::nullopt;
        return prefix_eviction<Holder>{oldest->mark.live().holder,
                                       has_one_child(*oldest->parent) ? oldest->parent->end : 0,
                                       oldest->edge.size()};
    }
    /// The leaf that was used longest ago, and is not locked, goes. Nothing where there is none. Cannot fail.
    /// O(log children of the node above), amortised over the tokens that go.
    std::optional<prefix_eviction<Holder>> evict_least_recent() noexcept {
        const auto evicted = least_recent();
        if (evicted)
            forget(*paths_.oldest());
        return evicted;
    }

    /// Forgets the holder, with all tokens that it alone has, and says how many. `not_found` where the tree
    /// has no such holder; `busy` where some of those tokens are locked, otherwise than by `own`, which is
    /// unlocked along with it; `not_found` too where `own` is given and is no lock. O(nodes that go).
    [[nodiscard]] result<std::size_t> remove(const Holder& holder, lock_id own = {}) noexcept {
        const record* const gone = find(holder);
        const detail::prefix_lock<node>* const entry = locks_.find(own);
        if (gone == nullptr || (own != lock_id{} && entry == nullptr))
            return error{errc::not_found, verb::remove, 0, bytes{0}};
        bool below_is_pinned = false;
        for (const node* at = gone->leaf; at != nullptr; at = next_to_go(*at)) {
            const bool is_held = entry != nullptr && entry->node == at;
            if (at->pins > (is_held ? 1u : 0u) + (below_is_pinned ? 1u : 0u))
                return error{errc::busy, verb::remove, 0, bytes{0}};
            below_is_pinned = at->pins > 0;
        }
        if (entry != nullptr)
            static_cast<void>(unlock(own));
        const std::size_t before = paths_.tokens();
        for (node* at = gone->leaf; at != nullptr;) {
            node* const above = next_to_go(*at);
            forget(*at);
            at = above;
        }
        return before - paths_.tokens();
    }

    [[nodiscard]] std::size_t tokens() const noexcept { return paths_.tokens(); }
    [[nodiscard]] std::size_t nodes() const noexcept { return paths_.nodes(); }
    [[nodiscard]] prefix_figures figures() const noexcept {
        return {paths_.tokens(), paths_.pinned_tokens(), paths_.nodes(), holders_.size(), locks_.size()};
    }

    /// Checks the invariants. O(nodes + locks), as far as the ways to the holders are short.
    [[nodiscard]] bool verify() const noexcept {
        std::size_t leaves = 0, locks = 0;
        const bool sound = paths_.for_all([&](const node& one) {
            locks += one.pins;
            for (const node& child : one.children)
                locks -= child.pins > 0 ? 1 : 0;
            if (&one == &paths_.root())
                return !one.mark;
            const record& owner = one.mark.live();
            leaves += one.is_leaf() ? 1u : 0u;
            return owner.is_linked() && (one.is_leaf() ? owner.leaf == &one : shares_owner(one, owner));
        });
        return sound && paths_.verify() && leaves == holders_.size() && locks == locks_.size() &&
               std::all_of(locks_.begin(), locks_.end(), [](const auto& one) { return one.node->pins > 0; });
    }

  private:
    using record = detail::holder_record<Holder>;
    using reference = detail::holder_ref<Holder>;
    using paths = detail::prefix_paths<reference>;
    using node = typename paths::node;
    using place = typename paths::place;

    template <class T>
    [[nodiscard]] static std::unique_ptr<T> make() noexcept {
        return std::unique_ptr<T>{new (std::nothrow) T};
    }
    /// Null where the tree has no such holder.
    [[nodiscard]] record* find(const Holder& holder) noexcept {
        const auto found = holders_.find(holder);
        return found == holders_.end() ? nullptr : &*found;
    }
    [[nodiscard]] match_type match_of(const place& where) noexcept {
        match_type made;
        made.tokens = where.tokens;
        made.at_ = where.at;
        made.removals_ = removals_;
        if (where.tokens > 0)
            made.holder = where.at->mark.live().holder;
        return made;
    }
    /// Whether a holder's string and another, which was found up to `found`, begin one with the other.
    [[nodiscard]] static bool fits(const record& own, const place& found, bool covered) noexcept {
        const node* at = own.leaf;
        if (!covered)
            return at == found.at && !found.is_inside();
        while (at != nullptr && at != found.at)
            at = at->parent;
        return at != nullptr;
    }
    /// The node above, where nothing needs it once this one has gone.
    [[nodiscard]] static node* next_to_go(const node& one) noexcept {
        node* const above = one.parent;
        return above->parent != nullptr && has_one_child(*above) ? above : nullptr;
    }
    [[nodiscard]] static bool has_one_child(const node& one) noexcept {
        return std::next(one.children.begin()) == one.children.end();
    }
    [[nodiscard]] static bool shares_owner(const node& one, const record& owner) noexcept {
        return std::any_of(one.children.begin(), one.children.end(),
                           [&](const node& child) { return &child.mark.live() == &owner; });
    }

    /// A leaf that is not locked goes; its holder is left with what is above, or goes too.
    void forget(node& leaf) noexcept {
        record& owner = leaf.mark.live();
        const reference kept{owner};
        node& above = paths_.erase(leaf);
        ++removals_;
        if (!above.is_leaf())
            retire(owner, reference{above.children.begin()->mark.live()});
        else if (&above == &paths_.root())
            retire(owner, {});
        else
            owner.leaf = &above;
    }
    /// The heir stands for all that the holder stood for.
    Holder retire(record& gone, const reference& heir) noexcept {
        holders_.erase(holders_.iterator_to(gone));
        gone.leaf = nullptr;
        gone.heir = heir;
        return gone.holder;
    }

    paths paths_;
    detail::holder_set<Holder> holders_; ///< owned by the nodes that refer to them
    detail::prefix_locks<node> locks_;
    std::uint64_t removals_ = 0; ///< how often nodes have gone
};

} // namespace vtensor::kv
