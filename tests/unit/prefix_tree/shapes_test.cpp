// SPDX-License-Identifier: Apache-2.0
//
// Trees of extreme shape: a million nodes in a chain, and a hundred thousand below one. No verb may recurse
// along a path, walk what it need not, or overflow.
#include <vtensor/kv/prefix_tree.hpp>

#include <support/catch.hpp>
#include <support/sanitizers.hpp>

#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

using namespace vtensor;

namespace {

constexpr kv::salt_id none{};
constexpr std::size_t depth = testing::any_sanitizer ? 50'000 : 1'000'000;
constexpr std::size_t width = testing::any_sanitizer ? 5'000 : 100'000;
using tree_type = kv::prefix_tree<std::size_t>;

std::vector<kv::token_id> counting(std::size_t count) {
    std::vector<kv::token_id> made(count);
    std::iota(made.begin(), made.end(), 0);
    return made;
}

/// One string in which every token is an edge, because every beginning is locked.
std::vector<kv::lock_id> lock_every_beginning(tree_type& tree, const std::vector<kv::token_id>& string) {
    std::vector<kv::lock_id> locks;
    auto match = tree.match(none, string);
    for (std::size_t tokens = 1; tokens <= string.size(); ++tokens) {
        match.tokens = tokens;
        const auto lock = tree.lock(match);
        if (!lock)
            FAIL("token " << tokens << " cannot be locked");
        locks.push_back(*lock);
    }
    return locks;
}

} // namespace

TEST_CASE("a chain of one token an edge is locked, unlocked and evicted node by node") {
    tree_type tree;
    const auto string = counting(depth);
    REQUIRE(tree.insert(none, string, 1));
    const auto locks = lock_every_beginning(tree, string);
    REQUIRE(tree.nodes() == depth);
    REQUIRE(tree.figures().locked_tokens == depth);
    CHECK(tree.verify());
    CHECK_FALSE(tree.evict_least_recent());

    for (const kv::lock_id lock : locks) // the last one frees the whole path
        if (!tree.unlock(lock))
            FAIL("a lock cannot be unlocked");
    CHECK(tree.figures().locked_tokens == 0);
    CHECK(tree.match(none, string).tokens == depth);
    CHECK(tree.verify());

    for (std::size_t left = depth; left-- > depth / 2;) {
        const auto gone = tree.evict_least_recent();
        if (!gone || gone->holder != 1 || gone->tokens_left != left || gone->tokens_gone != 1)
            FAIL("the eviction that leaves " << left);
    }
    CHECK(tree.verify());
    CHECK(tree.match(none, string).tokens == depth / 2);
    const auto rest = tree.remove(1);
    REQUIRE(rest);
    CHECK(*rest == depth / 2);
    CHECK(tree.nodes() == 0);
}

TEST_CASE("a tree with a long chain can be destroyed") {
    tree_type tree;
    const auto string = counting(depth);
    REQUIRE(tree.insert(none, string, 1));
    CHECK(lock_every_beginning(tree, string).size() == depth);
}

TEST_CASE("holders that stand for a long path in turn cost the same each") {
    tree_type tree;
    const auto trunk = counting(depth / 10);
    auto string = trunk;
    string.push_back(-1);
    REQUIRE(tree.insert(none, string, 1));
    const auto locks = lock_every_beginning(tree, trunk);
    for (const kv::lock_id lock : locks)
        REQUIRE(tree.unlock(lock).ok());
    // Many leaves at the end of the trunk: each eviction hands the trunk on to another.
    const std::size_t leaves = testing::any_sanitizer ? 50 : 1'000;
    for (std::size_t leaf = 2; leaf <= leaves; ++leaf) {
        string.back() = -static_cast<kv::token_id>(leaf);
        REQUIRE(tree.insert(none, string, leaf).ok());
    }
    for (std::size_t leaf = 1; leaf < leaves; ++leaf) {
        const auto gone = tree.evict_least_recent();
        if (!gone || gone->holder != leaf || gone->tokens_left != 0)
            FAIL("the eviction of " << leaf);
    }
    for (std::size_t tokens = 1; tokens <= trunk.size(); tokens = tokens * 2)
        CHECK(tree.match(none, std::span{trunk}.first(tokens)).holder == leaves);
    CHECK(tree.verify());
}

TEST_CASE("a very wide root is searched, and evicted in order") {
    tree_type tree;
    std::vector<kv::token_id> string(3);
    for (std::size_t child = 1; child <= width; ++child) {
        string[0] = static_cast<kv::token_id>(child * 7919 % width); // in no order
        if (!tree.insert(none, string, child))
            FAIL("insertion " << child);
    }
    CHECK(tree.nodes() == width);
    CHECK(tree.verify());
    for (std::size_t child = 1; child <= width; child += 2) {
        string[0] = static_cast<kv::token_id>(child * 7919 % width);
        if (tree.match(none, string).holder != child)
            FAIL("match " << child);
    }
    for (const std::size_t first : {2u, 1u})
        for (std::size_t child = first; child <= width; child += 2)
            if (tree.evict_least_recent()->holder != child)
                FAIL("eviction " << child);
    CHECK(tree.nodes() == 0);
}

TEST_CASE("one string of a million tokens is one node") {
    tree_type tree;
    const auto string = counting(depth);
    REQUIRE(tree.insert(none, string, 1));
    CHECK(tree.nodes() == 1);
    for (const std::size_t tokens :
         {depth, depth - 1, depth / 2, std::size_t{65}, std::size_t{64}, std::size_t{63}, std::size_t{1}})
        CHECK(tree.match(none, std::span{string}.first(tokens)).tokens == tokens);
    for (std::size_t place = 0; place < 300; ++place) { // around the ends of compared blocks
        auto other = std::vector<kv::token_id>(string.begin(), string.begin() + 400);
        other[place] = -1;
        CHECK(tree.match(none, other).tokens == place);
    }
}
