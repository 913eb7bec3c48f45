// SPDX-License-Identifier: Apache-2.0
//
// Where there is no memory a prefix tree says out_of_memory and is as it was, the order of use included; the
// verbs that give something up need none.
#include <vtensor/kv/prefix_tree.hpp>

#include <support/catch.hpp>
#include <support/failing_new.hpp>

#include <cstddef>
#include <utility>
#include <vector>

using namespace vtensor;
using vtensor::testing::failing_new;

namespace {

constexpr kv::salt_id none{};
using tree_type = kv::prefix_tree<int>;
using tokens = std::vector<kv::token_id>;

/// The last match ends in the middle of an edge.
tree_type::match_type fill(tree_type& tree) {
    REQUIRE(tree.insert(none, tokens{1, 2, 3, 4, 5, 6}, 1));
    REQUIRE(tree.insert(none, tokens{1, 2, 7}, 2));
    REQUIRE(tree.insert(none, tokens{8, 9}, 3));
    const auto match = tree.match(none, tokens{1, 2, 3});
    REQUIRE(match.tokens == 3);
    return match;
}

/// Every holder, and what was left of it, as one number.
std::vector<std::size_t> order_of_eviction(tree_type& tree) {
    std::vector<std::size_t> order;
    while (const auto gone = tree.evict_least_recent())
        order.push_back(static_cast<std::size_t>(gone->holder) * 100 + gone->tokens_left);
    return order;
}

/// Runs `operate` on trees filled alike, with allocation 1, 2, 3, … failing until none is left to fail.
/// Returns how many there were.
template <class Operate>
std::size_t with_each_allocation_failing(Operate operate) {
    tree_type untouched;
    fill(untouched);
    const auto before = untouched.figures();
    const auto order = order_of_eviction(untouched);
    for (std::size_t k = 1; k < 100; ++k) {
        tree_type tree;
        const auto match = fill(tree);
        failing_new::fail(k);
        const errc code = operate(tree, match);
        if (failing_new::disarm() == 0) {
            REQUIRE(code == errc::ok);
            REQUIRE(tree.verify());
            return k - 1;
        }
        CAPTURE(k);
        REQUIRE(code == errc::out_of_memory);
        REQUIRE(tree.verify());
        const auto now = tree.figures();
        CHECK(now.tokens == before.tokens);
        CHECK(now.nodes == before.nodes);
        CHECK(now.holders == before.holders);
        CHECK(now.locks == 0);
        CHECK(now.locked_tokens == 0);
        CHECK(order_of_eviction(tree) == order);
    }
    FAIL("the operation never stops asking for memory");
    return 0;
}

/// How many allocations `work` asks for, of which the first fails.
template <class Work>
std::size_t failures_in(Work work) {
    failing_new::fail(1);
    work();
    return failing_new::disarm();
}

} // namespace

TEST_CASE("an insertion that finds no memory changes nothing") {
    struct insertion {
        const char* name;
        tokens string;
        int holder;
        std::size_t allocations; ///< a node and its tokens (two); a holder; a node that is cut off
    };
    const auto one = GENERATE(
        insertion{"below the root", {5, 6}, 4, 4}, insertion{"below a node", {1, 2, 9}, 4, 4},
        insertion{"in an edge", {1, 2, 3, 4, 9}, 4, 5}, insertion{"behind a leaf", {8, 9, 10}, 4, 4},
        insertion{"of a holder that is there", {8, 9, 10}, 3, 3}, insertion{"that adds nothing", {8}, 4, 0});
    INFO(one.name);
    CHECK(with_each_allocation_failing([&](tree_type& tree, const auto&) {
              return tree.insert(none, one.string, one.holder).code();
          }) == one.allocations);
}

TEST_CASE("a lock that finds no memory changes nothing") {
    const auto [held, allocations] =
        GENERATE(std::pair<std::size_t, std::size_t>{3, 2}, // in an edge
                 std::pair<std::size_t, std::size_t>{2, 1}, std::pair<std::size_t, std::size_t>{0, 1});
    CHECK(with_each_allocation_failing([held = held](tree_type& tree, tree_type::match_type match) {
              match.tokens = held;
              return tree.lock(match).code();
          }) == allocations);
}

TEST_CASE("matching, unlocking, evicting and removing need no memory") {
    tree_type tree;
    const tokens string{1, 2, 3, 4, 5, 6};
    const auto lock = tree.lock(fill(tree));
    REQUIRE(lock);
    std::size_t matched = 0;
    bool unlocked = false, evicted = false, removed = false;
    CHECK(failures_in([&] { matched = tree.match(none, string).tokens; }) == 0);
    CHECK(matched == 6);
    CHECK(failures_in([&] { unlocked = tree.unlock(*lock).ok(); }) == 0);
    CHECK(unlocked);
    CHECK(failures_in([&] { evicted = tree.evict_least_recent().has_value(); }) == 0);
    CHECK(evicted);
    CHECK(failures_in([&] { removed = tree.remove(1).ok(); }) == 0);
    CHECK(removed);
    CHECK(tree.verify());
}

TEST_CASE("tokens that are gone give their memory back, and may fail to") {
    tree_type tree;
    const tokens string(1000, 1);
    REQUIRE(tree.insert(none, string, 1));
    auto match = tree.match(none, string);
    for (const std::size_t tokens : {100u, 400u, 900u}) {
        match.tokens = tokens;
        const auto lock = tree.lock(match);
        REQUIRE(lock);
        REQUIRE(tree.unlock(*lock));
    }
    const auto evict = [&] { static_cast<void>(tree.evict_least_recent()); };
    CHECK(failures_in(evict) == 0); // more than half of the array is in use still
    CHECK(tree.tokens() == 900);
    CHECK(failures_in(evict) == 1); // a smaller one would be taken, had it been there
    CHECK(tree.tokens() == 400);
    CHECK(tree.verify());
    CHECK(failures_in(evict) == 1);
    CHECK(tree.match(none, string).tokens == 100);
    CHECK(failures_in(evict) == 0); // the last
    CHECK(tree.tokens() == 0);
}
