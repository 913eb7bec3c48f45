// SPDX-License-Identifier: Apache-2.0
//
// Slots and positions: appending, evicting, taking back, and what is refused.
#include "support/catch.hpp"

#include <vtensor/memory/slot_map.hpp>

#include <vector>

using namespace vtensor;

namespace {

slot_map map_of(std::size_t rows) {
    slot_map map;
    REQUIRE(map.prepare(rows));
    map.resize(rows);
    return map;
}
status evict(slot_map& map, const std::vector<slot_type>& kept) {
    const status outcome = map.prepare_eviction(kept);
    if (outcome)
        map.evict(kept);
    return outcome;
}
std::vector<position_type> positions(const slot_map& map) {
    return {map.positions().begin(), map.positions().end()};
}
constexpr position_type dead = no_position;

} // namespace

TEST_CASE("positions are slots until a row is evicted") {
    slot_map map = map_of(4);
    CHECK(map.positions().empty());
    CHECK(map.next() == 4);
    REQUIRE(evict(map, {0, 1, 2, 3}));
    CHECK(map.positions().empty());
    REQUIRE(evict(map, {1, 3}));
    CHECK(positions(map) == std::vector<position_type>{dead, 1, dead, 3});
    CHECK(map.live() == 2);
    REQUIRE(map.prepare(6));
    map.resize(6);
    CHECK(positions(map) == std::vector<position_type>{dead, 1, dead, 3, 4, 5});
    CHECK(map.verify());
}

TEST_CASE("what is to be kept must be live slots, sorted, none twice") {
    slot_map map = map_of(5);
    REQUIRE(evict(map, {0, 2, 4}));
    const auto before = positions(map);
    const std::vector<std::vector<slot_type>> wrong = {{2, 0}, {0, 0}, {5}, {1}, {0, 1}, {0, 4, 3}, {dead}};
    for (const auto& kept : wrong) {
        const status outcome = evict(map, kept);
        CHECK(outcome.code() == errc::invalid_argument);
        CHECK(outcome.error().where == verb::evict);
        CHECK(positions(map) == before);
    }
    REQUIRE(evict(map, {}));
    CHECK(map.live() == 0);
    CHECK(map.next() == 5);
}

TEST_CASE("rows that are all evicted leave the next position where it was") {
    slot_map map = map_of(3);
    REQUIRE(evict(map, {}));
    defrag::plan plan;
    plan.rows_after = 0;
    REQUIRE(map.rearrange(plan));
    map.commit(0);
    CHECK(map.rows() == 0);
    REQUIRE(map.prepare(2));
    map.resize(2);
    CHECK(positions(map) == std::vector<position_type>{3, 4});
    map.resize(0); // taken back as a whole
    CHECK(map.next() == 0);
    CHECK(map.verify());
}

TEST_CASE("taking rows back takes their positions back where they are the newest") {
    slot_map map = map_of(6);
    map.resize(5);
    CHECK(map.next() == 5);
    REQUIRE(evict(map, {0, 3, 4}));
    map.resize(4);
    CHECK(map.next() == 4);
    CHECK(positions(map) == std::vector<position_type>{0, dead, dead, 3});
    map.resize(2); // slot 2 is dead, slot 3 had position 3
    CHECK(map.next() == 3);

    slot_map swapped = map_of(4);
    REQUIRE(evict(swapped, {1, 2, 3}));
    defrag::plan plan;
    plan.rows = {{3, 0, 1}};
    plan.rows_after = 3;
    REQUIRE(swapped.rearrange(plan));
    swapped.commit(3);
    CHECK(positions(swapped) == std::vector<position_type>{3, 1, 2});
    swapped.resize(2); // position 2 goes, but 3 stays
    CHECK(swapped.next() == 4);
    CHECK(swapped.verify());
}

TEST_CASE("a plan that would lose a row is refused") {
    slot_map map = map_of(8);
    REQUIRE(evict(map, {0, 1, 4, 7}));
    const auto before = positions(map);
    const auto refused = [&](const defrag::plan& plan) {
        const status outcome = map.rearrange(plan);
        CHECK(positions(map) == before);
        return outcome.code() == errc::invalid_argument;
    };
    CHECK(refused({{}, {}, 7, 0}));          // cuts a live row
    CHECK(refused({{}, {}, 9, 0}));          // more rows than there are
    CHECK(refused({{}, {{7, 1, 1}}, 5, 0})); // overwrites a live row
    CHECK(refused({{}, {{7, 2, 2}}, 5, 0})); // reads behind the end
    CHECK(refused({{}, {{4, 7, 2}}, 8, 0})); // writes behind the end
    CHECK(refused({{{2, 0, 1}}, {}, 8, 4})); // no such block
    CHECK(refused({{{0, 1, 1}}, {}, 4, 4})); // cuts what it has swapped away
    CHECK(refused({{{1, 0, 1}}, {}, 8, 5})); // a live row in the part that the last block lacks
    CHECK(refused({{}, {{0, 0, no_position}}, 8, 0}));
    CHECK_FALSE(refused({{}, {{7, 2, 1}}, 5, 0}));
    CHECK_FALSE(refused({{}, {{4, 2, 1}, {7, 3, 1}}, 4, 0}));

    slot_map whole = map_of(4); // all live: nothing may move
    CHECK_FALSE(whole.rearrange({{}, {}, 3, 0}));
    CHECK_FALSE(whole.rearrange({{}, {{3, 0, 1}}, 4, 0}));
    CHECK(whole.rearrange({{}, {}, 4, 0}));
}

TEST_CASE("positions do not wrap around") {
    slot_map map = map_of(2);
    const status outcome = map.prepare(std::size_t{slot_map::most} + 1);
    CHECK(outcome.code() == errc::limit_exceeded);
    CHECK(outcome.error().where == verb::grow);
    CHECK(map.rows() == 2);
}

TEST_CASE("taking back to a position forgets newer rows, wherever they lie, and dead ones at the end") {
    slot_map map = map_of(6);
    map.take_back(6);
    CHECK(map.rows() == 6);
    map.take_back(4); // nothing was evicted: as cutting
    CHECK(map.rows() == 4);
    CHECK(map.next() == 4);
    CHECK(map.positions().empty());
    REQUIRE(map.prepare(6));
    map.resize(6);
    REQUIRE(evict(map, {0, 2, 5}));
    const defrag::plan newest_first{.blocks = {}, .rows = {{5, 1, 1}}, .rows_after = 3, .block_rows = 0};
    REQUIRE(map.rearrange(newest_first));
    map.commit(3);
    REQUIRE(positions(map) == std::vector<position_type>{0, 5, 2});
    map.take_back(5); // in the middle: its slot is dead
    CHECK(positions(map) == std::vector<position_type>{0, dead, 2});
    CHECK(map.live() == 2);
    CHECK(map.next() == 5);
    CHECK(map.verify());
    map.take_back(2); // at the end, and the dead one before it goes with it
    CHECK(positions(map) == std::vector<position_type>{0});
    CHECK(map.next() == 2);
    CHECK(map.verify());
    map.take_back(0);
    CHECK(map.next() == 0);
    CHECK(map.positions().empty());
    CHECK(map.verify());
}

TEST_CASE("making room leaves the positions where another thread reads them, until rows are added") {
    slot_map map = map_of(100);
    CHECK(map.prepared() == slot_map::most);
    REQUIRE(evict(map, {1, 50, 99}));
    const auto* const there = map.positions().data();
    REQUIRE(map.prepare(1000));
    CHECK(map.prepared() >= 1000);
    CHECK(map.positions().data() == there);
    CHECK(map.positions()[50] == 50);
    map.resize(101);
    CHECK(map.position(50) == 50);
    CHECK(map.position(51) == dead);
    CHECK(map.position(100) == 100);
    CHECK(map.prepared() >= 1000);
    CHECK(map.verify());
}
