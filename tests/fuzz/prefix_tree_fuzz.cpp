// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as verbs on a prefix tree, beside the model that keeps whole strings: every answer and all
// invariants after every verb.
#include "unit/prefix_tree/model_steps.hpp"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 2000) // what differs shows in few verbs
        return 0;
    const std::uint8_t* const end = data + size;
    const auto next = [&](std::size_t count) { return data == end ? 0 : *data++ % count; };
    vtensor::testing::model_run run;
    run.alphabet = 1 + next(4);
    run.longest = 1 + next(30);
    run.holders = 2 + next(30);
    run.most_locks = next(10);
    while (data != end)
        run.step(next); // throws where the two differ
    return 0;
}
