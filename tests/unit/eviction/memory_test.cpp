// SPDX-License-Identifier: Apache-2.0
// Book-keeping memory: none is taken in the steady state, and running out of it changes nothing.
#include "all_methods.hpp"
#include "world.hpp"

#include <vtensor/policy/eviction/accumulated_attention.hpp>
#include <vtensor/policy/eviction/recurrence_tracker.hpp>

#include <support/catch.hpp>
#include <support/failing_new.hpp>

#include <cstddef>
#include <vector>

namespace vtensor::testing {

namespace ev = eviction;

TEST_CASE("choosing again allocates nothing", "[eviction]") {
    const world shown{
        {.layers = 2, .kv_heads = 3, .missing = 0.3, .ragged = true, .dead = 0.3, .shuffled = true}};
    for (const named_method& method : all_methods()) {
        INFO(method.name);
        ev::workspace memory;
        ev::kept_rows kept;
        for (int time = 0; time < 3; ++time)
            REQUIRE(method.choose({}, shown.evidence(), memory, kept).ok());
        failing_new::fail(1);
        const status outcome = method.choose({}, shown.evidence(), memory, kept);
        REQUIRE(failing_new::disarm() == 0);
        REQUIRE(outcome.ok());
    }
}

TEST_CASE("a choice that runs out of memory leaves what was kept before", "[eviction]") {
    const world shown{
        {.layers = 2, .kv_heads = 3, .missing = 0.3, .ragged = true, .dead = 0.3, .shuffled = true}};
    for (const named_method& method : all_methods()) {
        ev::workspace fresh;
        ev::kept_rows expected;
        REQUIRE(method.choose({}, shown.evidence(), fresh, expected).ok());
        const std::vector<slot_type> before{4, 7};
        std::size_t failures = 0;
        for (std::size_t k = 1;; ++k) {
            INFO(method.name << ", allocation " << k);
            ev::workspace memory;
            ev::kept_rows kept;
            REQUIRE(kept.reset(1, 1).ok());
            REQUIRE(kept.add(before).ok());
            failing_new::fail(k);
            const status outcome = method.choose({}, shown.evidence(), memory, kept);
            if (failing_new::disarm() == 0) {
                REQUIRE(outcome.ok());
                break;
            }
            ++failures;
            REQUIRE(outcome.code() == errc::out_of_memory);
            REQUIRE(kept.layers() == 1);
            REQUIRE(std::ranges::equal(kept.of(0, 0), before));
            REQUIRE(method.choose({}, shown.evidence(), memory, kept).ok()); // the workspace is still good
            for (std::size_t layer = 0; layer < 2; ++layer)
                for (std::size_t head = 0; head < 3; ++head)
                    REQUIRE(std::ranges::equal(kept.of(layer, head), expected.of(layer, head)));
        }
        REQUIRE(failures > 5);
    }
}

TEST_CASE("what lives across steps is unchanged when it cannot grow", "[eviction]") {
    const std::vector<float> numbers(2 * 40, 0.25f);
    const std::vector<ev::head_rows> few{{.rows = 3}, {.rows = 2}}, many{{.rows = 40}, {.rows = 39}};
    const auto probabilities = make_view(numbers.data(), 2, 1, 40);
    ev::accumulated_attention sums{2, 2};
    ev::recurrence_tracker tracker{2, 0.1f};
    REQUIRE(sums.add(few, probabilities).ok());
    REQUIRE(tracker.observe(few, probabilities).ok());

    failing_new::fail(1);
    const status added = sums.add(many, probabilities);
    REQUIRE(failing_new::disarm() == 1);
    REQUIRE(added.code() == errc::out_of_memory);
    REQUIRE(sums.view().extents[1] == 3);
    REQUIRE(sums.view()(1, 1) == 0.25f);

    failing_new::fail(1);
    const status observed = tracker.observe(many, probabilities);
    REQUIRE(failing_new::disarm() == 1);
    REQUIRE(observed.code() == errc::out_of_memory);
    REQUIRE(tracker.steps() == 1);
    REQUIRE(tracker.counters(0).size() == 3);

    failing_new::fail(1);
    const errc rated = tracker.importance().code();
    REQUIRE(failing_new::disarm() == 1);
    REQUIRE(rated == errc::out_of_memory);
    REQUIRE(tracker.importance().ok());
}

} // namespace vtensor::testing
