// SPDX-License-Identifier: Apache-2.0
//
// Evidence that cannot be made of what is given is refused, and nothing is written.
#include "evidence_case.hpp"
#include "support/catch.hpp"

#include <vtensor/attention/evidence.hpp>

#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr attention::inline_executor inline_run;

} // namespace

TEST_CASE("evidence of heads and views that disagree is refused before anything is written") {
    struct scene {
        std::vector<attention::kv_head<float>> heads;
        std::size_t width = 8;
        tensor_view<const float, 3> weights;
        tensor_view<float, 2> written;
    };
    random_engine random{7};
    const random_heads<float> heads{{9, 4}, 8, 0, random};
    const projection<float> weights{4, 8, 5, projection<float>::checkpoint, random};
    const std::vector<std::pair<std::string, std::function<void(scene&)>>> faults{
        {"more heads than are written", [](scene& s) { s.written.extents[0] = 1; }},
        {"fewer heads than are written", [](scene& s) { s.heads.pop_back(); }},
        {"rows that find no place", [](scene& s) { s.written.extents[1] = 8; }},
        {"rows without memory", [](scene& s) { s.heads[1].keys = s.heads[1].values = nullptr; }},
        {"no width", [](scene& s) { s.width = s.weights.extents[1] = 0; }},
        {"nowhere to write", [](scene& s) { s.written.data = nullptr; }},
        {"floats apart", [](scene& s) { s.written.strides[1] = 2; }},
        {"heads that overlap", [](scene& s) { s.written.strides[0] = 8; }},
    };
    const std::vector<std::pair<std::string, std::function<void(scene&)>>> projection_faults{
        {"no multiple of the KV heads", [](scene& s) { s.weights.extents[0] = 3; }},
        {"no query heads", [](scene& s) { s.weights.extents[0] = 0; }},
        {"no hidden width", [](scene& s) { s.weights.extents[2] = 0; }},
        {"weights without memory", [](scene& s) { s.weights.data = nullptr; }},
    };
    const auto refuses = [&](const auto& spoil, bool also_keys) {
        const written_rows rows{2, 9};
        scene s{.heads = heads.described(), .weights = weights.view, .written = rows.view()};
        spoil(s);
        const auto refused = [](const status& outcome) {
            return outcome.code() == errc::invalid_argument && outcome.error().where == verb::attend;
        };
        CHECK(refused(attention::output_norms<float>(s.heads, s.weights, s.written, inline_run)));
        if (also_keys) {
            CHECK(refused(attention::key_norms<float>(s.heads, s.width, s.written, inline_run)));
            CHECK(refused(attention::key_similarity<float>(s.heads, s.width, s.written, inline_run)));
        }
        CHECK(rows.untouched());
    };
    for (const auto& [name, spoil] : faults) {
        CAPTURE(name);
        refuses(spoil, true);
    }
    for (const auto& [name, spoil] : projection_faults) {
        CAPTURE(name);
        refuses(spoil, false);
    }
}

TEST_CASE("sums that probabilities do not fit are left alone") {
    const std::vector<float> memory(2 * 3 * 4, 0.5f);
    const auto probabilities = make_view(memory.data(), 2, 3, 4);
    const written_rows sums{2, 4};
    const auto refused = [&](tensor_view<const float, 3> from, tensor_view<float, 2> to) {
        return attention::accumulate(from, to, inline_run).code() == errc::invalid_argument;
    };
    auto spoiled = probabilities;
    spoiled.extents[0] = 1;
    CHECK(refused(spoiled, sums.view()));
    spoiled = probabilities;
    spoiled.data = nullptr;
    CHECK(refused(spoiled, sums.view()));
    spoiled = probabilities;
    spoiled.strides[2] = 2;
    CHECK(refused(spoiled, sums.view()));
    auto narrow = sums.view();
    narrow.extents[1] = 3;
    CHECK(refused(probabilities, narrow));
    narrow = sums.view();
    narrow.strides[0] = 3;
    CHECK(refused(probabilities, narrow));
    CHECK(sums.untouched());
}
