// SPDX-License-Identifier: Apache-2.0
//
// Every verb of the manager with every backend call failing in turn, once and along with its undo: whatever
// fails has changed no sequence, and nothing is lost for good.
#include "engine.hpp"

#include <support/fault_loop.hpp>

#include <vtensor/adaptors/failing.hpp>

using namespace vtensor;
using namespace vtensor::testing;
using failing_backend = adaptors::failing<host_backend>;
using engine_type = engine<shared_layer<failing_backend>, reclaim::cheapest_first, preemption::swap_out>;

namespace {

constexpr std::size_t a_page = engine_type::tokens_a_page;

/// What may not change: every sequence and its rows.
struct seen {
    explicit seen(engine_type& now)
        : sequences{now.manager->stats().running},
          preempted{now.manager->stats().preempted},
          tokens{now.manager->stats().tokens} {}
    friend bool operator==(const seen&, const seen&) = default;

    std::size_t sequences;
    std::size_t preempted;
    std::size_t tokens;
};

struct scene {
    host_backend memory;
    failing_backend backend{memory};
    engine_type::pool_type pool{backend, {}};
    engine_type now{pool};

    template <class Operation, class Undo>
    void fail_each_call(Operation operation, Undo undo, bool may_call_nobody = false) {
        for (const auto length : {fault_length::one, fault_length::with_undo}) {
            for (const errc code : {errc::out_of_memory, errc::native_failure}) {
                const seen before{now};
                const std::size_t failures = for_each_failing_call(
                    backend, operation,
                    [&](std::size_t) {
                        CHECK(seen{now} == before);
                        REQUIRE(now.manager->verify());
                        now.require_same();
                    },
                    [&] {
                        REQUIRE(now.manager->verify());
                        now.require_same();
                        undo();
                    },
                    code, length);
                CHECK((failures > 0 || may_call_nobody));
                now.require_same();
                undo();
                REQUIRE(now.manager->verify());
                REQUIRE(seen{now} == before);
            }
        }
    }
};

} // namespace

TEST_CASE("Creating a sequence, alone and behind a recorded prefix") {
    scene s;
    const auto donor = s.now.create(text(3 * a_page + 5)).value().id;
    REQUIRE(s.now.manager->try_record(donor));
    kv::sequence_id last{};
    const auto create = [&](std::vector<kv::token_id> prompt) {
        const auto made = s.now.create(std::move(prompt));
        last = made ? made->id : last;
        return made.status();
    };
    const auto release = [&] { REQUIRE(s.now.release(last)); };
    s.fail_each_call([&] { return create(text(200, 7)); }, release, true);
    s.fail_each_call([&] { return create(joined(text(3 * a_page + 2), text(50, 8))); }, release, true);
}

TEST_CASE("Extending sequences") {
    scene s;
    const auto one = s.now.create(text(a_page)).value().id;
    const auto other = s.now.create(text(a_page, 2)).value().id;
    const auto tokens = text(3, 3);
    const std::vector<kv::extension> step{{one, tokens}, {other, tokens}};
    s.fail_each_call([&] { return s.now.extend(step); },
                     [&] {
                         for (const auto id : {one, other}) {
                             REQUIRE(s.now.truncate(id, a_page));
                             REQUIRE(s.now.manager->cache(id)->try_trim(a_page));
                         }
                     });
}

TEST_CASE("Forking a sequence, and writing rows that are shared") {
    scene s;
    const auto parent = s.now.create(text(2 * a_page + 5)).value().id;
    kv::sequence_id last{};
    s.fail_each_call(
        [&] {
            const auto made = s.now.fork(parent);
            last = made ? *made : last;
            return made.status();
        },
        [&] { REQUIRE(s.now.release(last)); });
    const auto fork_anew = [&] { last = s.now.fork(parent).value(); };
    fork_anew();
    std::uint64_t seed = 0;
    s.fail_each_call([&] { return s.now.overwrite(last, 3, a_page, ++seed); },
                     [&] {
                         REQUIRE(s.now.release(last));
                         fork_anew();
                     });
    // Tokens taken back inside shared pages, and others in their place.
    REQUIRE(s.now.truncate(last, 7));
    s.fail_each_call([&] { return s.now.extend(last, text(9, 9)); },
                     [&] {
                         REQUIRE(s.now.release(last));
                         fork_anew();
                         REQUIRE(s.now.truncate(last, 7));
                     });
}

TEST_CASE("Recording, releasing and preempting need no call that may fail") {
    scene s;
    for (const auto length : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u}) {
        const auto one = s.now.create(text(100, length)).value().id;
        const auto other = s.now.fork(one).value();
        s.backend.fail_from(length, errc::native_failure);
        CHECK(s.now.manager->try_record(one));
        CHECK(s.now.manager->try_preempt(one));
        CHECK(s.now.release(one));
        CHECK(s.now.release(other));
        s.backend.disarm();
        REQUIRE(s.now.manager->verify());
    }
}

TEST_CASE("Resuming a sequence") {
    scene s;
    const auto one = s.now.create(text(3 * a_page + 5)).value().id;
    REQUIRE(s.now.manager->try_preempt(one));
    s.fail_each_call([&] { return s.now.resume(one).status(); },
                     [&] { REQUIRE(s.now.manager->try_preempt(one)); }, true);
}

TEST_CASE("Giving memory back at a limit") {
    scene s;
    const auto kept = s.now.create(text(2 * a_page)).value().id;
    const auto gone = s.now.create(text(6 * a_page, 2)).value().id;
    REQUIRE(s.now.manager->try_record(gone));
    REQUIRE(s.now.release(gone));
    REQUIRE(s.now.manager->resize_limit(s.pool.stats().in_use));
    kv::sequence_id last{};
    std::uint64_t seed = 10;
    s.fail_each_call(
        [&] {
            const auto made = s.now.create(text(4 * a_page, ++seed));
            last = made ? made->id : last;
            return made.status();
        },
        [&] {
            REQUIRE(s.now.manager->try_record(last));
            REQUIRE(s.now.release(last));
        },
        true);
    s.now.require_same(kept);
}
