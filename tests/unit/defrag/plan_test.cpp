// SPDX-License-Identifier: Apache-2.0
//
// What every policy plans for random patterns of dead rows, against a plain vector that the plan is applied
// to: no row is lost, what the policy promises of order, copies and memory holds, and the plan is one that
// the slot map accepts.
#include "patterns.hpp"
#include "support/catch.hpp"

#include <vtensor/memory/slot_map.hpp>
#include <vtensor/policy/defrag.hpp>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

using namespace vtensor;
using vtensor::testing::choose_some;
using vtensor::testing::dice;
using vtensor::testing::live_slots;

namespace {

/// A pattern of live and dead rows, and what a policy makes of it.
struct planned {
    std::vector<position_type> before;
    defrag::state state;
    defrag::plan plan;
    std::vector<position_type> after; ///< `before`, moved by `defrag::apply` and cut

    [[nodiscard]] static std::vector<position_type> live(const std::vector<position_type>& of) {
        std::vector<position_type> found;
        std::ranges::copy_if(of, std::back_inserter(found), [](auto at) { return at != no_position; });
        return found;
    }
    [[nodiscard]] std::size_t pages(std::size_t rows) const {
        return (rows * state.block_pages + state.block_rows - 1) / state.block_rows;
    }
};

/// Runs `check` for many patterns. Rows and pages of all sorts: a block of one row, of some, of more rows
/// than there are.
template <class Policy, class Check>
void for_patterns(const Policy& policy, Check check, std::uint64_t first_seed = 0) {
    for (std::uint64_t seed = first_seed; seed < first_seed + 400; ++seed) {
        INFO("seed " << seed);
        dice random{seed};
        planned now;
        const std::size_t rows = 1 + random.below(300);
        std::vector<position_type> all(rows);
        for (std::size_t slot = 0; slot < rows; ++slot)
            all[slot] = static_cast<position_type>(slot);
        slot_map map;
        REQUIRE(map.prepare(rows));
        map.resize(rows);
        const auto kept = choose_some(random, live_slots({}, rows));
        REQUIRE(map.prepare_eviction(kept));
        map.evict(kept);
        now.before.assign(map.positions().begin(), map.positions().end());
        if (now.before.empty())
            now.before = all;
        const std::size_t blocks[] = {0, 1, 4, 7, 16, 32, 1000};
        now.state = {map.positions(), rows, 64_B};
        now.state.block_rows = blocks[random.below(7)];
        now.state.block_pages = 1 + random.below(3);
        REQUIRE(policy.plan(now.state, now.plan));

        now.after = now.before;
        defrag::apply(now.plan, std::span{now.after});
        now.after.resize(now.plan.rows_after);
        // The map agrees with the plain vector wherever a row lives.
        REQUIRE(map.rearrange(now.plan));
        map.commit(now.plan.rows_after);
        CHECK(map.verify());
        REQUIRE(map.rows() == now.plan.rows_after);
        bool same = true;
        std::set<position_type> found;
        for (std::size_t slot = 0; slot < map.rows(); ++slot) {
            const position_type at = map.position(static_cast<slot_type>(slot));
            same = same && (at == no_position || at == now.after[slot]);
            if (at != no_position)
                found.insert(at);
            else
                now.after[slot] = no_position; // what a row left behind means nothing
        }
        CHECK(same);
        CHECK(found == std::set<position_type>{kept.begin(), kept.end()});
        check(now);
    }
}

constexpr auto is_dense = [](const planned& now) {
    return now.plan.rows_after == planned::live(now.before).size();
};
constexpr auto keeps_order = [](const planned& now) {
    return planned::live(now.after) == planned::live(now.before);
};

/// Costs of a machine where either way may be the cheaper one.
defrag::costs costs_of(double page, double run, double waited) {
    return {.copied_byte = 1, .copied_run = 1, .remapped_page = page, .remapped_run = run, .waited = waited};
}

} // namespace

TEST_CASE("none moves and cuts nothing") {
    for_patterns(defrag::none{}, [](const planned& now) {
        CHECK(now.plan.rows_after == now.state.rows);
        CHECK((now.plan.rows.empty() && now.plan.blocks.empty()));
    });
}

TEST_CASE("compact makes rows dense and keeps their order") {
    for_patterns(defrag::compact{}, [](const planned& now) {
        CHECK(is_dense(now));
        CHECK(keeps_order(now));
        CHECK(now.plan.blocks.empty());
        // Rows before the first dead one stay where they are.
        const auto first = std::ranges::find(now.before, no_position) - now.before.begin();
        for (const defrag::row_move& move : now.plan.rows)
            CHECK(move.to >= static_cast<std::size_t>(first));
    });
}

TEST_CASE("swap_with_last makes rows dense by the fewest copies") {
    for_patterns(defrag::swap_with_last{}, [](const planned& now) {
        CHECK(is_dense(now));
        CHECK(now.plan.blocks.empty());
        const auto behind = now.before.begin() + static_cast<std::ptrdiff_t>(now.plan.rows_after);
        const auto must_move =
            std::count_if(behind, now.before.end(), [](auto at) { return at != no_position; });
        CHECK(now.plan.rows_copied() == static_cast<std::size_t>(must_move));
    });
}

TEST_CASE("remap copies nothing, keeps the order and leaves no dead block") {
    for_patterns(defrag::remap{}, [](const planned& now) {
        CHECK(now.plan.rows.empty());
        CHECK(keeps_order(now));
        CHECK((now.after.empty() || now.after.back() != no_position));
        if (now.state.block_rows == 0)
            return;
        for (std::size_t first = 0; first < now.after.size(); first += now.state.block_rows) {
            const std::size_t end = std::min(first + now.state.block_rows, now.after.size());
            std::size_t live = 0;
            for (std::size_t slot = first; slot < end; ++slot)
                live += now.after[slot] != no_position ? 1u : 0u;
            CHECK(live > 0);
        }
    });
}

TEST_CASE("incremental copies no more than it may, and arrives") {
    const defrag::incremental<64 * 5> policy; // five rows
    for_patterns(policy, [&](const planned& now) {
        CHECK(now.plan.rows_copied() <= 5);
        CHECK((is_dense(now) || now.plan.rows_copied() == 5));
        CHECK((now.after.empty() || now.after.back() != no_position));
        // Again and again, as a caller does, until nothing is left to do.
        std::vector<position_type> rows = now.after;
        const std::size_t live = planned::live(now.before).size();
        for (std::size_t call = 0; rows.size() > live; ++call) {
            REQUIRE(call < 100);
            defrag::plan step;
            REQUIRE(policy.plan({rows, rows.size(), 64_B, now.state.block_rows, 1}, step));
            REQUIRE(step.rows_after < rows.size());
            defrag::apply(step, std::span{rows});
            rows.resize(step.rows_after);
        }
        CHECK(std::set<position_type>{rows.begin(), rows.end()}.size() == live);
    });
}

TEST_CASE("incremental refuses a row that is longer than its bytes") {
    const std::vector<position_type> positions{0, no_position, 2};
    defrag::plan plan;
    const defrag::state state{positions, 3, 128_B};
    CHECK(defrag::incremental<100>{}.plan(state, plan).code() == errc::invalid_argument);
    const std::vector<position_type> tail{0, 1, no_position}; // nothing has to move
    REQUIRE(defrag::incremental<100>{}.plan({tail, 3, 128_B}, plan));
    CHECK(plan.rows_after == 2);
}

TEST_CASE("hybrid gives back the pages of dense rows, whatever costs more") {
    const double free = 1e-6;
    for (const defrag::costs& costs : {defrag::costs{}, costs_of(1, 1, 0), costs_of(64, 1, 10),
                                       costs_of(600, 20, 0), costs_of(free, 0, 0), costs_of(1e9, 0, 0)}) {
        std::size_t remapped = 0;
        for_patterns(
            defrag::hybrid{costs},
            [&](const planned& now) {
                const std::size_t live = planned::live(now.before).size();
                CHECK((is_dense(now) || (now.plan.rows.empty() && now.state.block_rows != 0 &&
                                         now.pages(now.plan.rows_after) == now.pages(live))));
                defrag::plan copies;
                REQUIRE(defrag::swap_with_last{}.plan(now.state, copies));
                CHECK(now.plan.rows_copied() <= copies.rows_copied());
                remapped += now.plan.blocks.empty() ? 0u : 1u;
            },
            1000);
        CAPTURE(costs.remapped_page);
        CHECK((remapped == 0) == (!costs.known() || costs.remapped_page == 1e9));
    }
}

TEST_CASE("hybrid swaps a dense block behind for a sparse one before, where that is cheaper") {
    // Four blocks of four rows: the first has one live row, the last is full; two rows in the others.
    const position_type dead = no_position;
    const std::vector<position_type> positions{0, dead, dead, dead, 4,  5,  dead, dead,
                                               8, 9,    dead, dead, 12, 13, 14,   15};
    const defrag::state state{positions, 16, 64_B, 4, 1}; // nine live rows
    defrag::plan plan;
    REQUIRE(defrag::hybrid{costs_of(10, 0, 0)}.plan(state, plan));
    REQUIRE(plan.blocks.size() == 1);
    CHECK(plan.blocks[0] == defrag::block_move{3, 0, 1});
    CHECK(plan.rows_copied() == 2); // into the holes of block 1
    CHECK(plan.rows_after == 9);
    REQUIRE(defrag::hybrid{costs_of(200, 0, 0)}.plan(state, plan)); // two pages cost more than three rows
    CHECK(plan.blocks.empty());
    CHECK(plan.rows_copied() == 5);
}

TEST_CASE("hybrid slides pages and copies nothing where no other way could cost much less") {
    // Eight blocks of four rows: the front is dead to the middle of a block.
    std::vector<position_type> positions(32, no_position);
    for (std::uint32_t slot = 18; slot < 32; ++slot)
        positions[slot] = slot;
    defrag::plan plan;
    REQUIRE(defrag::hybrid{costs_of(10, 0, 0)}.plan({positions, 32, 64_B, 4, 1}, plan));
    CHECK(plan.rows.empty());
    REQUIRE(plan.blocks.size() == 1);
    CHECK(plan.blocks[0] == defrag::block_move{4, 0, 4});
    CHECK(plan.rows_after == 16); // four pages, as fourteen dense rows need
}

TEST_CASE("hybrid counts a run of pages wherever neighbours do not stay neighbours") {
    const defrag::costs costs{.copied_byte = 10.0 / 64, .remapped_page = 1, .remapped_run = 50};
    const auto plan_of_full_blocks = [&](std::vector<std::size_t> blocks) {
        std::vector<position_type> positions(32, no_position);
        for (const std::size_t block : blocks) {
            for (std::size_t slot = 4 * block; slot < 4 * block + 4; ++slot)
                positions[slot] = static_cast<position_type>(slot);
        }
        defrag::plan plan;
        REQUIRE(defrag::hybrid{costs}.plan({positions, 32, 64_B, 4, 1}, plan));
        CHECK(plan.rows_after == 8);
        return plan;
    };
    // Eight rows cost 80 to copy; to slide, 52 in one run and 102 in two.
    CHECK(plan_of_full_blocks({4, 5}).rows.empty());
    CHECK(plan_of_full_blocks({4, 6}).blocks.empty());
}

TEST_CASE("apply moves any array by slot") {
    const std::vector<position_type> positions{0, 1, no_position, no_position, 4, 5, 6};
    defrag::plan plan;
    REQUIRE(defrag::remap{}.plan({positions, 7, 64_B, 2, 1}, plan));
    std::vector<std::string> names{"a", "b", "c", "d", "e", "f", "g"};
    defrag::apply(plan, std::span{names});
    names.resize(plan.rows_after);
    CHECK(names == std::vector<std::string>{"a", "b", "e", "f", "g"});
    // A move whose ends overlap, upwards.
    plan.reset({{}, 5, 64_B});
    plan.rows = {{0, 1, 4}};
    std::vector<int> numbers{1, 2, 3, 4, 5};
    defrag::apply(plan, std::span{numbers});
    CHECK(numbers == std::vector<int>{1, 1, 2, 3, 4});
}
