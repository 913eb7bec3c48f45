// SPDX-License-Identifier: Apache-2.0
//
// Random verbs on a tree and on a model that looks through whole strings; every answer and all invariants
// after every verb.
#include "model_steps.hpp"

#include <support/catch.hpp>
#include <support/sanitizers.hpp>

#include <cstddef>
#include <random>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

struct kind {
    const char* name;
    std::size_t alphabet;
    std::size_t longest;
    std::size_t most_nodes;
    std::size_t holders;
};

} // namespace

TEST_CASE("a tree answers as a model does that keeps whole strings") {
    const kind shape =
        GENERATE(kind{"two tokens, short", 2, 6, 30, 12}, kind{"two tokens, long", 2, 40, 40, 24},
                 kind{"three tokens", 3, 12, 40, 24}, kind{"many tokens: wide", 50, 6, 60, 24},
                 kind{"one token: a chain", 1, 30, 60, 6}, kind{"few nodes", 2, 8, 10, 4});
    constexpr std::size_t steps = any_sanitizer ? 10'000 : 100'000;
    INFO(shape.name);
    std::mt19937_64 random{20260 + shape.most_nodes};
    model_run run;
    run.alphabet = shape.alphabet;
    run.longest = shape.longest;
    run.most_nodes = shape.most_nodes;
    run.most_locks = shape.most_nodes / 5;
    run.holders = shape.holders;
    const auto next = [&](std::size_t count) { return static_cast<std::size_t>(random() % count); };
    for (std::size_t step = 0; step < steps; ++step) {
        INFO("step " << step);
        try {
            run.step(next);
        } catch (const std::logic_error& difference) {
            FAIL(difference.what());
        }
    }
    const auto& seen = run.both.seen;
    CHECK(seen.superseded > 0);
    CHECK(seen.extended > 0);
    CHECK(seen.lock_cuts > 0);
    CHECK(seen.left > 0);
    CHECK(seen.busy > 0);
    CHECK(seen.removed > 0);
    CHECK((seen.cut_locked > 0) == (shape.alphabet > 1)); // in a chain nothing parts
    CHECK((seen.inherited > 0) == (shape.alphabet > 1));
}
