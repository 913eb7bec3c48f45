// SPDX-License-Identifier: Apache-2.0
//
// Every allocation inside a verb of the manager failing in turn: no sequence has changed, or the verb could
// do without.
#include "engine.hpp"

#include <support/failing_new.hpp>

#include <optional>
#include <utility>

using namespace vtensor;
using namespace vtensor::testing;
using engine_type = engine<shared_layer<host_backend>, reclaim::cheapest_first, preemption::swap_out>;

namespace {

constexpr std::size_t a_page = engine_type::tokens_a_page;

struct scene {
    scene() {
        donor = now.create(text(3 * a_page + 4)).value().id;
        twin = now.create(joined(text(3 * a_page), text(9, 3))).value().id;
        REQUIRE(now.manager->try_record(donor));
        other = now.create(text(2 * a_page + 4, 2)).value().id;
    }

    host_backend memory;
    engine_type::pool_type pool{memory, {}};
    engine_type now{pool};
    kv::sequence_id donor{};
    kv::sequence_id twin{}; ///< begins as the donor does, on pages of its own
    kv::sequence_id other{};
};

/// `verb(scene)` in a new scene each time, with another allocation failing: a status.
template <class Verb>
void fail_each_allocation(Verb verb) {
    for (std::size_t k = 1; k < 10'000; ++k) {
        scene s;
        const auto before = s.now.manager->stats();
        failing_new::fail(k);
        const status outcome = verb(s);
        const std::size_t failures = failing_new::disarm();
        INFO("allocation " << k);
        REQUIRE(s.now.manager->verify());
        s.now.require_same();
        if (failures == 0) {
            REQUIRE(outcome);
            CHECK(k > 1);
            return;
        }
        if (!outcome) {
            CHECK(outcome.code() == errc::out_of_memory);
            CHECK(s.now.manager->stats().running == before.running);
            CHECK(s.now.manager->stats().preempted == before.preempted);
            CHECK(s.now.manager->stats().tokens == before.tokens);
        }
    }
    FAIL("the verb never stops allocating");
}

} // namespace

TEST_CASE("Creating and forking without memory for book-keeping") {
    const auto prompt = text(100, 7);
    const auto known = joined(text(3 * a_page + 1), text(40, 8));
    for (const auto* one : {&prompt, &known}) {
        fail_each_allocation([&](scene& s) -> status {
            const auto made = s.now.manager->try_create(*one);
            if (made)
                REQUIRE(s.now.manager->try_release(made->id));
            return made.status();
        });
    }
    fail_each_allocation([&](scene& s) -> status {
        const auto made = s.now.manager->try_fork(s.other);
        if (made)
            REQUIRE(s.now.manager->try_release(*made));
        return made.status();
    });
}

TEST_CASE("Recording, extending, preempting and resuming without memory for book-keeping") {
    fail_each_allocation([](scene& s) { return s.now.manager->try_record(s.other); });
    fail_each_allocation([](scene& s) { return s.now.manager->try_record(s.twin); }); // merged, or not
    const auto tokens = text(70, 9);
    fail_each_allocation([&](scene& s) -> status {
        const kv::extension more{s.other, tokens};
        const status outcome = s.now.manager->try_extend({&more, 1});
        if (outcome)
            REQUIRE(s.now.truncate(s.other, 2 * a_page + 4));
        return outcome;
    });
    fail_each_allocation([](scene& s) -> status {
        REQUIRE(s.now.manager->try_preempt(s.other)); // without memory its rows are not kept
        const auto placed = s.now.manager->try_resume(s.other);
        if (!placed) {
            failing_new::disarm();
            REQUIRE(s.now.resume(s.other)); // as it was for who compares
            return {};
        }
        if (placed->matched < s.now.manager->tokens(s.other).size()) {
            failing_new::disarm();
            REQUIRE(s.now.manager->try_preempt(s.other));
            REQUIRE(s.now.resume(s.other));
        }
        return {};
    });
}
