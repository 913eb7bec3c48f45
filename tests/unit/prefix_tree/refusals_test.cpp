// SPDX-License-Identifier: Apache-2.0
//
// What a prefix tree refuses, with which code, and that a refusal changes nothing.
#include <vtensor/kv/prefix_tree.hpp>

#include <support/catch.hpp>

#include <cstddef>
#include <vector>

using namespace vtensor;
using kv::lock_id;

namespace {

constexpr kv::salt_id none{};
using tree_type = kv::prefix_tree<int>;
using tokens = std::vector<kv::token_id>;

struct scene {
    scene() {
        REQUIRE(tree.insert(none, tokens{1, 2, 3, 4}, 1));
        REQUIRE(tree.insert(none, tokens{1, 2, 5}, 2));
        before = tree.figures();
    }
    ~scene() {
        CHECK(tree.verify());
        const auto now = tree.figures();
        CHECK(now.tokens == before.tokens);
        CHECK(now.nodes == before.nodes);
        CHECK(now.holders == before.holders);
        CHECK(now.locks == before.locks);
        const auto oldest = tree.least_recent();
        REQUIRE(oldest);
        CHECK(oldest->holder == 1);
    }
    scene(const scene&) = delete;
    scene& operator=(const scene&) = delete;

    tree_type tree;
    kv::prefix_figures before;
};

} // namespace

TEST_CASE("a holder that is none is not inserted") {
    scene s;
    const auto got = s.tree.insert(none, tokens{9}, 0);
    CHECK(got.code() == errc::invalid_argument);
    CHECK(got.error().where == verb::insert);
}

TEST_CASE("a holder does not stand for two strings") {
    scene s;
    CHECK(s.tree.insert(none, tokens{7, 7}, 1).code() == errc::invalid_argument);
    CHECK(s.tree.insert(none, tokens{1, 2, 3, 9}, 1).code() == errc::invalid_argument);
    CHECK(s.tree.insert(none, tokens{1, 2, 5}, 1).code() == errc::invalid_argument);
    CHECK(s.tree.insert(none, tokens{1, 2, 5, 6}, 1).code() == errc::invalid_argument);
    CHECK(s.tree.insert(kv::salt_id{1}, tokens{1, 2, 3, 4, 5}, 1).code() == errc::invalid_argument);
}

TEST_CASE("what is not locked is not unlocked") {
    scene s;
    CHECK(s.tree.unlock(lock_id{}).code() == errc::not_found);
    CHECK(s.tree.unlock(lock_id{77}).code() == errc::not_found);
    CHECK(s.tree.locked(lock_id{77}).code() == errc::not_found);
    const auto lock = s.tree.lock(s.tree.match(none, tokens{1, 2, 5}));
    REQUIRE(lock);
    REQUIRE(s.tree.unlock(*lock));
    const status again = s.tree.unlock(*lock);
    CHECK(again.code() == errc::not_found);
    CHECK(again.error().where == verb::unlock);
}

TEST_CASE("a second unlock does not take somebody else's lock") {
    scene s;
    const auto match = s.tree.match(none, tokens{1, 2, 5});
    const auto mine = s.tree.lock(match), other = s.tree.lock(match);
    REQUIRE((mine && other));
    REQUIRE(s.tree.unlock(*mine));
    CHECK(s.tree.unlock(*mine).code() == errc::not_found);
    CHECK(s.tree.figures().locked_tokens == 3);
    REQUIRE(s.tree.unlock(*other));
}

TEST_CASE("a match that is none, is out of date, or claims too much is not locked") {
    scene s;
    CHECK(s.tree.lock({}).code() == errc::not_found);
    auto match = s.tree.match(none, tokens{1, 2});
    match.tokens = 3;
    CHECK(s.tree.lock(match).code() == errc::invalid_argument);
    match.tokens = 2;
    REQUIRE(s.tree.insert(none, tokens{8}, 3));
    REQUIRE(s.tree.remove(3));
    CHECK(s.tree.lock(match).code() == errc::not_found);
}

TEST_CASE("a holder that is unknown, or a lock, is not removed") {
    scene s;
    CHECK(s.tree.remove(0).code() == errc::not_found);
    CHECK(s.tree.remove(3).code() == errc::not_found);
    const auto got = s.tree.remove(1, lock_id{77});
    CHECK(got.code() == errc::not_found);
    CHECK(got.error().where == verb::remove);
}
