// SPDX-License-Identifier: Apache-2.0
//
// What each verb of a prefix tree does, one thing a test.
#include <vtensor/kv/prefix_tree.hpp>

#include <support/catch.hpp>

#include <cstddef>
#include <limits>
#include <string>
#include <vector>

using namespace vtensor;
using kv::salt_id;

namespace {

constexpr salt_id none{};
using tree_type = kv::prefix_tree<int>;
using tokens = std::vector<kv::token_id>;

/// A token a letter.
tokens text(const std::string& letters) { return {letters.begin(), letters.end()}; }

std::size_t put(tree_type& tree, const std::string& letters, int holder, salt_id salt = none) {
    const auto done = tree.insert(salt, text(letters), holder);
    REQUIRE(done);
    REQUIRE(done->taken);
    REQUIRE(tree.verify());
    return done->new_tokens;
}
std::size_t matched(tree_type& tree, const std::string& letters, salt_id salt = none) {
    return tree.match(salt, text(letters)).tokens;
}
kv::lock_id hold(tree_type& tree, const std::string& letters) {
    const auto match = tree.match(none, text(letters));
    REQUIRE(match.tokens == letters.size());
    const auto lock = tree.lock(match);
    REQUIRE(lock);
    REQUIRE(tree.verify());
    return *lock;
}
kv::prefix_eviction<int> evict(tree_type& tree) {
    const auto gone = tree.evict_least_recent();
    REQUIRE(gone);
    REQUIRE(tree.verify());
    return *gone;
}

} // namespace

TEST_CASE("an empty tree matches nothing and has nothing to evict") {
    tree_type tree;
    const auto match = tree.match(none, text("abc"));
    CHECK(match.tokens == 0);
    CHECK(match.holder == 0);
    CHECK_FALSE(tree.least_recent());
    CHECK_FALSE(tree.evict_least_recent());
    CHECK(tree.tokens() == 0);
    CHECK(tree.nodes() == 0);
    CHECK(tree.verify());
}

TEST_CASE("a match is as long as what any insertion has in common with it, to the token") {
    tree_type tree;
    CHECK(put(tree, "the cat sat", 1) == 11);
    CHECK(put(tree, "the cow", 2) == 2);
    CHECK(matched(tree, "the cat sat") == 11);
    CHECK(matched(tree, "the cat sat down") == 11);
    CHECK(matched(tree, "the c") == 5);
    CHECK(matched(tree, "the canary") == 6);
    CHECK(matched(tree, "the") == 3);
    CHECK(matched(tree, "x") == 0);
    CHECK(tree.match(none, text("the cow")).holder == 2);
    CHECK(tree.match(none, text("the cat")).holder == 1);
    CHECK(tree.tokens() == 13);
    CHECK(tree.nodes() == 3);
}

TEST_CASE("tokens are any numbers") {
    tree_type tree;
    const tokens wild{std::numeric_limits<kv::token_id>::min(), -1, 0,
                      std::numeric_limits<kv::token_id>::max()};
    REQUIRE(tree.insert(none, wild, 1));
    CHECK(tree.match(none, wild).tokens == 4);
    CHECK(tree.match(none, tokens{-1}).tokens == 0);
}

TEST_CASE("salts never match each other") {
    tree_type tree;
    constexpr salt_id other{7};
    CHECK(put(tree, "abc", 1) == 3);
    CHECK(matched(tree, "abc", other) == 0);
    CHECK(put(tree, "abcd", 2, other) == 4);
    CHECK(tree.match(none, text("abcd")).holder == 1);
    CHECK(tree.match(other, text("abcd")).holder == 2);
    CHECK(matched(tree, "abcd", salt_id{std::numeric_limits<std::uint64_t>::max()}) == 0);
}

TEST_CASE("a string that is covered is not taken") {
    tree_type tree;
    put(tree, "abcdef", 1);
    for (const char* covered : {"abcdef", "abc", ""}) {
        const auto again = tree.insert(none, text(covered), 2);
        REQUIRE(again);
        CHECK(again->new_tokens == 0);
        CHECK_FALSE(again->taken);
        CHECK(again->superseded == 0);
    }
    CHECK(tree.figures().holders == 1);
    CHECK(tree.nodes() == 1);
    CHECK(tree.remove(2).code() == errc::not_found);
}

TEST_CASE("a longer string supersedes the holder of its beginning") {
    tree_type tree;
    put(tree, "abc", 1);
    put(tree, "xyz", 2);
    const auto longer = tree.insert(none, text("abcde"), 3);
    REQUIRE(longer);
    CHECK(longer->new_tokens == 2);
    CHECK(longer->superseded == 1);
    CHECK(tree.verify());
    CHECK(tree.match(none, text("abc")).holder == 3);
    CHECK(tree.remove(1).code() == errc::not_found);
    // A branch supersedes nobody.
    const auto branch = tree.insert(none, text("abX"), 4);
    REQUIRE(branch);
    CHECK(branch->superseded == 0);
}

TEST_CASE("a holder may come back with more tokens, and with fewer changes nothing") {
    tree_type tree;
    CHECK(put(tree, "abc", 1) == 3);
    CHECK(put(tree, "abcde", 1) == 2);
    CHECK(put(tree, "abcd", 1) == 0);
    CHECK(put(tree, "", 1) == 0);
    CHECK(tree.figures().holders == 1);
    CHECK(evict(tree).tokens_left == 3);
    CHECK(put(tree, "abcx", 1) == 1);
}

TEST_CASE("evictions go by the use of leaves, longest ago first") {
    tree_type tree;
    put(tree, "aa", 1);
    put(tree, "ab", 2);
    put(tree, "b", 3);
    put(tree, "c", 4);
    CHECK(matched(tree, "aa") == 2);
    CHECK(tree.insert(none, text("b"), 9)); // not taken, and yet a use
    const auto oldest = tree.least_recent();
    REQUIRE(oldest);
    CHECK(oldest->holder == 2);
    for (const int expected : {2, 4, 1, 1, 3})
        CHECK(evict(tree).holder == expected);
    CHECK_FALSE(tree.evict_least_recent());
}

TEST_CASE("an eviction says how much of the holder is still needed") {
    tree_type tree;
    put(tree, "abcdef", 1);
    put(tree, "abcxy", 2);
    auto gone = evict(tree); // 2 has what is above too
    CHECK(gone.holder == 1);
    CHECK(gone.tokens_left == 0);
    CHECK(gone.tokens_gone == 3);
    CHECK(tree.match(none, text("abc")).holder == 2);
    gone = evict(tree); // nobody else has it
    CHECK(gone.holder == 2);
    CHECK(gone.tokens_left == 3);
    CHECK(gone.tokens_gone == 2);
    CHECK(tree.match(none, text("abcxy")).tokens == 3);
    gone = evict(tree);
    CHECK(gone.holder == 2);
    CHECK(gone.tokens_left == 0);
    CHECK(gone.tokens_gone == 3);
    CHECK(tree.nodes() == 0);
}

TEST_CASE("what is locked is not evicted, what lies behind it is") {
    tree_type tree;
    put(tree, "abcdef", 1);
    const auto lock = hold(tree, "abc"); // in the middle of the edge
    CHECK(tree.nodes() == 2);
    CHECK(tree.figures().locked_tokens == 3);
    const auto gone = evict(tree);
    CHECK(gone.tokens_left == 3);
    CHECK_FALSE(tree.evict_least_recent());
    REQUIRE(tree.unlock(lock));
    CHECK(tree.figures().locked_tokens == 0);
    CHECK(evict(tree).tokens_gone == 3);
}

TEST_CASE("a lock survives that its edge is cut") {
    tree_type tree;
    put(tree, "abcdef", 1);
    const auto lock = hold(tree, "abcdef");
    put(tree, "abX", 2);
    put(tree, "abcdX", 3);
    const auto shorter = hold(tree, "a");
    CHECK(evict(tree).holder == 2);
    CHECK(evict(tree).holder == 3);
    CHECK_FALSE(tree.evict_least_recent());
    CHECK(matched(tree, "abcdef") == 6);
    REQUIRE(tree.unlock(lock));
    for (const std::size_t left : {4u, 2u, 1u})
        CHECK(evict(tree).tokens_left == left);
    CHECK_FALSE(tree.evict_least_recent());
    REQUIRE(tree.unlock(shorter));
    CHECK(evict(tree).tokens_left == 0);
}

TEST_CASE("what several lock stays until the last has unlocked it") {
    tree_type tree;
    put(tree, "abc", 1);
    const auto first = hold(tree, "abc"), second = hold(tree, "abc"), third = hold(tree, "ab");
    REQUIRE(tree.unlock(first));
    CHECK_FALSE(tree.evict_least_recent());
    REQUIRE(tree.unlock(second));
    CHECK(evict(tree).tokens_left == 2);
    CHECK_FALSE(tree.evict_least_recent());
    REQUIRE(tree.unlock(third));
    CHECK(evict(tree).tokens_left == 0);
}

TEST_CASE("a match may be locked in part, and after its edge was cut") {
    tree_type tree;
    put(tree, "abcdef", 1);
    auto match = tree.match(none, text("abcdef"));
    put(tree, "abX", 2);
    match.tokens = 1;
    const auto lock = tree.lock(match);
    REQUIRE(lock);
    CHECK(tree.figures().locked_tokens == 1);
    const auto kept = tree.locked(*lock);
    REQUIRE(kept);
    CHECK(kept->tokens == 1);
    while (tree.evict_least_recent()) {
    }
    CHECK(tree.tokens() == 1);
    CHECK(tree.verify());
}

TEST_CASE("a lock knows a holder after its first one has gone") {
    tree_type tree;
    put(tree, "abcd", 1);
    const auto lock = hold(tree, "ab");
    put(tree, "abxy", 2);
    CHECK(evict(tree).holder == 1);
    const auto kept = tree.locked(lock);
    REQUIRE(kept);
    CHECK(kept->tokens == 2);
    CHECK(kept->holder == 2);
    REQUIRE(tree.lock(*kept));
}

TEST_CASE("nothing can be locked as well") {
    tree_type tree;
    const auto lock = tree.lock(tree.match(none, {}));
    REQUIRE(lock);
    put(tree, "abc", 1);
    CHECK(tree.figures().locks == 1);
    const auto kept = tree.locked(*lock);
    REQUIRE(kept);
    CHECK(kept->holder == 0);
    CHECK(evict(tree).holder == 1);
    CHECK(tree.unlock(*lock));
}

TEST_CASE("unlocking is a use") {
    tree_type tree;
    put(tree, "a", 1);
    put(tree, "b", 2);
    const auto lock = hold(tree, "a");
    CHECK(matched(tree, "b") == 1);
    REQUIRE(tree.unlock(lock));
    CHECK(evict(tree).holder == 2);
}

TEST_CASE("a holder that is removed takes along what it alone has") {
    tree_type tree;
    put(tree, "abcdef", 1);
    put(tree, "abcxy", 2);
    REQUIRE(tree.unlock(hold(tree, "abcd"))); // one more node
    const auto gone = tree.remove(1);
    REQUIRE(gone);
    CHECK(*gone == 3);
    CHECK(tree.verify());
    CHECK(tree.match(none, text("abcdef")).tokens == 3);
    CHECK(tree.match(none, text("abcdef")).holder == 2);
    REQUIRE(tree.remove(2));
    CHECK(tree.tokens() == 0);
    CHECK(put(tree, "abcdefgh", 1) == 8); // adopted, it comes back longer
}

TEST_CASE("a holder is removed with the caller's own lock and not against another's") {
    tree_type tree;
    put(tree, "abcdef", 1);
    const auto own = hold(tree, "abcd"), other = hold(tree, "ab");
    CHECK(tree.remove(1).code() == errc::busy);
    CHECK(tree.remove(1, own).code() == errc::busy);
    CHECK(tree.remove(1, other).code() == errc::busy);
    CHECK(tree.figures().locks == 2);
    CHECK(tree.verify());
    REQUIRE(tree.unlock(other));
    const auto gone = tree.remove(1, own);
    REQUIRE(gone);
    CHECK(*gone == 6);
    CHECK(tree.figures().locks == 0);
    CHECK(tree.nodes() == 0);
}

TEST_CASE("a lock above what only the holder has does not keep it") {
    tree_type tree;
    put(tree, "abcd", 1);
    put(tree, "abxy", 2);
    const auto lock = hold(tree, "ab");
    REQUIRE(tree.remove(1));
    CHECK(tree.verify());
    CHECK(tree.remove(2).code() == errc::busy);
    REQUIRE(tree.unlock(lock));
    REQUIRE(tree.remove(2));
}

TEST_CASE("a holder is whatever is small, ordered and has a value for none") {
    struct cache {};
    cache one, two;
    kv::prefix_tree<cache*> tree;
    REQUIRE(tree.insert(none, text("ab"), &one));
    REQUIRE(tree.insert(none, text("ac"), &two));
    CHECK(tree.match(none, text("ac")).holder == &two);
    CHECK(tree.match(none, {}).holder == nullptr);
    static_assert(kv::cache_holder<cache*> && kv::cache_holder<std::size_t>);
    static_assert(!kv::cache_holder<std::string> && !kv::cache_holder<cache>);
}
