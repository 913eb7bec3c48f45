// SPDX-License-Identifier: Apache-2.0
//
// The nodes of a prefix tree: the tokens on their edges, which of them are pinned, and the order in which
// they were used. It knows no holders: every node carries a `Mark`, which a cut copies.
#pragma once

#include <vtensor/core/config.hpp>
#include <vtensor/kv/detail/token_run.hpp>
#include <vtensor/kv/token.hpp>

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <span>

namespace vtensor::kv::detail {

/// What tells the children of a node apart. The salt is that of the whole path.
struct edge_key {
    salt_id salt{};
    token_id first = 0;

    friend constexpr auto operator<=>(const edge_key&, const edge_key&) noexcept = default;
};
struct key_of_edge {
    using type = edge_key;

    template <class Node>
    [[nodiscard]] const edge_key& operator()(const Node& node) const noexcept {
        return node.key;
    }
};

struct by_first_token;
struct by_use;
using child_hook = boost::intrusive::set_base_hook<boost::intrusive::tag<by_first_token>,
                                                   boost::intrusive::optimize_size<true>>;
using use_hook = boost::intrusive::list_base_hook<boost::intrusive::tag<by_use>>;

/// A place where a string ends, two strings part, or a lock holds; with the tokens that lead to it.
template <class Mark>
struct prefix_node : child_hook, use_hook {
    using node_set = boost::intrusive::set<prefix_node, boost::intrusive::base_hook<child_hook>,
                                           boost::intrusive::key_of_value<key_of_edge>,
                                           boost::intrusive::constant_time_size<false>>;

    [[nodiscard]] std::size_t start() const noexcept { return end - edge.size(); }
    [[nodiscard]] bool is_leaf() const noexcept { return children.empty(); }

    edge_key key; // what a search reads comes first
    token_run edge;
    std::size_t end = 0; ///< tokens from the root to here
    node_set children;
    prefix_node* parent = nullptr;
    std::size_t pins = 0;   ///< that hold this node itself, and children that are pinned
    std::uint64_t used = 0; ///< when it was used last; meaningful while it is not pinned
    Mark mark{};
};

/// The nodes, owned. `root()` is always there, has no tokens, and is in no order.
template <class Mark>
class prefix_paths {
  public:
    using node = prefix_node<Mark>;

    /// The end of the first `tokens` tokens of a string: in the edge that leads to `at`, or at its end.
    struct place {
        node* at = nullptr;
        std::size_t tokens = 0;

        [[nodiscard]] bool is_inside() const noexcept { return tokens < at->end; }
    };

    prefix_paths() noexcept = default;
    prefix_paths(const prefix_paths&) = delete;
    prefix_paths& operator=(const prefix_paths&) = delete;
    ~prefix_paths() {
        order_.clear();
        for (node* at = &root_; at != nullptr;) {
            node* const next = at->is_leaf() ? at->parent : &*at->children.begin();
            if (at->is_leaf() && next != nullptr) {
                next->children.erase(next->children.iterator_to(*at));
                delete at;
            }
            at = next;
        }
    }

    [[nodiscard]] node& root() noexcept { return root_; }
    [[nodiscard]] const node& root() const noexcept { return root_; }
    [[nodiscard]] std::size_t nodes() const noexcept { return nodes_; }
    [[nodiscard]] std::size_t tokens() const noexcept { return tokens_; }
    [[nodiscard]] std::size_t pinned_tokens() const noexcept { return pinned_tokens_; }

    /// The longest beginning of the string that is here. O(its tokens + log children at every node).
    [[nodiscard]] place find(salt_id salt, std::span<const token_id> string) noexcept {
        place found{&root_, 0};
        while (found.tokens < string.size() && !found.is_inside()) {
            const auto next = found.at->children.find(edge_key{salt, string[found.tokens]});
            if (next == found.at->children.end())
                break;
            found.tokens += common_prefix(next->edge.tokens(), string.subspan(found.tokens));
            found.at = &*next;
        }
        return found;
    }

    /// The node that ends at the place. Where none does, `spare` becomes one, cut off the edge's beginning.
    node& cut(place where, std::unique_ptr<node> spare) noexcept {
        if (!where.is_inside())
            return *where.at;
        node& lower = *where.at;
        node& upper = *spare.release();
        upper.key = lower.key;
        upper.parent = lower.parent;
        upper.edge = lower.edge.take_front(where.tokens - lower.start());
        upper.end = where.tokens;
        upper.pins = lower.pins > 0 ? 1 : 0;
        upper.used = lower.used;
        upper.mark = lower.mark;
        node_set_of(upper).replace_node(node_set_of(lower).iterator_to(lower), upper);
        lower.key.first = lower.edge.tokens().front();
        lower.parent = &upper;
        upper.children.insert(lower);
        if (lower.pins == 0)
            order_.insert(std::next(order_.iterator_to(lower)), upper);
        ++nodes_;
        return upper;
    }

    /// Puts a leaf below `parent`, used now: its edge and its mark are set, and no child begins with the same
    /// token.
    void add(node& parent, salt_id salt, std::unique_ptr<node> fresh) noexcept {
        node& leaf = *fresh.release();
        leaf.key = {salt, leaf.edge.tokens().front()};
        leaf.parent = &parent;
        leaf.end = parent.end + leaf.edge.size();
        parent.children.insert(leaf);
        order_.push_back(leaf);
        ++nodes_;
        tokens_ += leaf.edge.size();
        touch(leaf);
    }
    /// The node, a leaf and not pinned, goes. Returns its parent. O(tokens that go), amortised.
    node& erase(node& leaf) noexcept {
        VTENSOR_ASSERT(leaf.is_leaf() && leaf.pins == 0);
        const std::unique_ptr<node> gone{&leaf};
        node& parent = *leaf.parent;
        parent.children.erase(parent.children.iterator_to(leaf));
        order_.erase(order_.iterator_to(leaf));
        --nodes_;
        tokens_ -= leaf.edge.size();
        if (leaf.edge.leaves_little())
            move_rest(leaf.edge, parent);
        return parent;
    }

    // ---- use ----
    //
    // In the order of use stand the nodes that are not pinned, each behind its children: whoever uses a node
    // uses those above it. So the first of the order is a leaf.

    /// The node and those above it are used now. O(nodes of the path that are not pinned).
    void touch(node& last) noexcept {
        ++time_;
        for (node* at = &last; at->pins == 0 && at != &root_; at = at->parent) {
            order_.splice(order_.end(), order_, order_.iterator_to(*at));
            at->used = time_;
        }
    }
    /// The node and those above it stay until `unpin`. O(nodes of the path that were not pinned).
    void pin(node& last) noexcept {
        for (node* at = &last; at->pins++ == 0 && at != &root_; at = at->parent) {
            order_.erase(order_.iterator_to(*at));
            pinned_tokens_ += at->edge.size();
        }
    }
    /// Takes one `pin` back; what is no longer pinned is used now.
    void unpin(node& last) noexcept {
        ++time_;
        for (node* at = &last; --at->pins == 0 && at != &root_; at = at->parent) {
            order_.push_back(*at);
            at->used = time_;
            pinned_tokens_ -= at->edge.size();
        }
    }
    /// The leaf that was used longest ago among those not pinned; null where all are.
    [[nodiscard]] node* oldest() noexcept { return order_.empty() ? nullptr : &order_.front(); }
    [[nodiscard]] const node* oldest() const noexcept { return order_.empty() ? nullptr : &order_.front(); }

    // ---- checks ----

    /// Calls visit(node) for the root and every node below, parents first; stops at the first false.
    template <class Visit>
    [[nodiscard]] bool for_all(const Visit& visit) const {
        for (const node* at = &root_; at != nullptr; at = following(*at))
            if (!visit(*at))
                return false;
        return true;
    }
    /// O(nodes).
    [[nodiscard]] bool verify() const noexcept {
        std::size_t nodes = 0, tokens = 0, pinned = 0, listed = 0;
        const bool sound = for_all([&](const node& one) {
            std::size_t pinned_children = 0;
            for (const node& child : one.children)
                pinned_children += child.pins > 0 ? 1 : 0;
            if (one.pins < pinned_children)
                return false;
            if (&one == &root_)
                return one.edge.size() == 0 && one.end == 0 && one.parent == nullptr;
            ++nodes;
            tokens += one.edge.size();
            pinned += one.pins > 0 ? one.edge.size() : 0;
            listed += one.pins == 0 ? 1 : 0;
            const node& above = *one.parent;
            return one.edge.size() > 0 && one.key.first == one.edge.tokens().front() &&
                   one.end == above.end + one.edge.size() &&
                   (&above == &root_ || one.key.salt == above.key.salt) &&
                   (one.pins == 0) == one.use_hook::is_linked() &&
                   (one.pins > 0 || above.pins > 0 || &above == &root_ || one.used <= above.used);
        });
        return sound && nodes == nodes_ && tokens == tokens_ && pinned == pinned_tokens_ &&
               listed == order_.size() && verify_order();
    }

  private:
    using use_list = boost::intrusive::list<node, boost::intrusive::base_hook<use_hook>>;

    [[nodiscard]] static typename node::node_set& node_set_of(node& child) noexcept {
        return child.parent->children;
    }
    /// What shares an array with a run that goes, from `last` upwards, gets a shorter one; or stays where it
    /// is, if there is no memory.
    static void move_rest(const token_run& going, node& last) noexcept {
        const token_run rest = token_run::copy_of(going.before());
        for (node* at = &last; rest.size() > 0 && at->edge.shares_array_with(going); at = at->parent)
            at->edge.move_to(rest);
    }
    /// In the order parents first; null after the last.
    [[nodiscard]] static const node* following(const node& one) noexcept {
        if (!one.is_leaf())
            return &*one.children.begin();
        for (const node* at = &one; at->parent != nullptr; at = at->parent) {
            const auto next = std::next(at->parent->children.iterator_to(*at));
            if (next != at->parent->children.end())
                return &*next;
        }
        return nullptr;
    }
    /// Nodes used at the same time are of one path, its lower end first.
    [[nodiscard]] bool verify_order() const noexcept {
        const node* last = nullptr;
        for (const node& one : order_) {
            if (last != nullptr &&
                (last->used > one.used || (last->used == one.used && last->parent != &one)))
                return false;
            last = &one;
        }
        return true;
    }

    node root_;
    use_list order_;
    std::uint64_t time_ = 0;
    std::size_t nodes_ = 0;
    std::size_t tokens_ = 0;
    std::size_t pinned_tokens_ = 0;
};

} // namespace vtensor::kv::detail
