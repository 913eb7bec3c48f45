// SPDX-License-Identifier: Apache-2.0
#include "attention_case.hpp"
#include "policies.hpp"
#include "support/catch.hpp"

#include <array>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// A problem of two well-formed sequences; a test spoils one thing of the second.
template <class Kind>
struct two_sequences {
    using stored = typename Kind::stored;
    using query = typename Kind::query;

    random_engine random{3};
    random_sequence<stored, query> good{shape(), random};
    random_sequence<stored, query> other{shape(), random};
    std::vector<attention::kv_head<stored>> heads{other.described().heads.begin(),
                                                  other.described().heads.end()};
    attention::sequence<stored, query> spoiled = other.described();
    attention::options options;

    two_sequences() { spoiled.heads = heads; }

    static sequence_shape shape() {
        return {.queries = 2, .group = 2, .rows = {9, 7}, .padding = 2, .scored = 1};
    }

    status attend() {
        const std::array both{good.described(), spoiled};
        return
            typename Kind::policy{}(attention::problem<stored, query>{.sequences = both, .options = options},
                                    attention::inline_executor{});
    }
};

template <class Kind>
using fault = std::pair<std::string, std::function<void(two_sequences<Kind>&)>>;

template <class Kind>
std::vector<fault<Kind>> all_faults() {
    using problem = two_sequences<Kind>;
    return {
        {"more outputs than queries", [](problem& p) { p.spoiled.output.extents[0] = 3; }},
        {"fewer outputs than queries", [](problem& p) { p.spoiled.output.extents[0] = 1; }},
        {"heads of output and queries differ", [](problem& p) { p.spoiled.output.extents[1] = 2; }},
        {"query heads are no multiple of KV heads",
         [](problem& p) {
             p.spoiled.queries.extents[1] = p.spoiled.output.extents[1] = 3;
             p.spoiled.scores.extents[0] = 3;
         }},
        {"no KV head", [](problem& p) { p.spoiled.heads = {}; }},
        {"no query head",
         [](problem& p) {
             p.spoiled.queries.extents[1] = p.spoiled.output.extents[1] = 0;
             p.spoiled.scores = {};
         }},
        {"keys of no width", [](problem& p) { p.spoiled.queries.extents[2] = 0; }},
        {"values of no width", [](problem& p) { p.spoiled.output.extents[2] = 0; }},
        {"queries without memory", [](problem& p) { p.spoiled.queries.data = nullptr; }},
        {"an output without memory", [](problem& p) { p.spoiled.output.data = nullptr; }},
        {"rows without keys", [](problem& p) { p.heads[1].keys = nullptr; }},
        {"rows without values", [](problem& p) { p.heads[0].values = nullptr; }},
        {"a query's elements are apart", [](problem& p) { p.spoiled.queries.strides[2] = 2; }},
        {"an output's elements are apart", [](problem& p) { p.spoiled.output.strides[2] = 2; }},
        {"outputs of two heads overlap", [](problem& p) { p.spoiled.output.strides[1] = 7; }},
        {"outputs of two queries overlap", [](problem& p) { p.spoiled.output.strides[0] = 0; }},
        {"positions without the queries' position",
         [](problem& p) {
             static constexpr std::array<attention::position_type, 9> positions{};
             p.heads[0].positions = positions.data();
         }},
        {"scores of more queries than there are",
         [](problem& p) {
             p.spoiled.scores.extents[1] = 3;
             p.spoiled.scores.strides[0] *= 3;
         }},
        {"scores of other heads", [](problem& p) { p.spoiled.scores.extents[0] = 3; }},
        {"scores too short for the rows", [](problem& p) { p.spoiled.scores.extents[2] = 8; }},
        {"a score's elements are apart", [](problem& p) { p.spoiled.scores.strides[2] = 2; }},
        {"scores of two heads overlap", [](problem& p) { p.spoiled.scores.strides[0] = 1; }},
        {"a scale that is not a number",
         [](problem& p) { p.options.scale = std::numeric_limits<float>::quiet_NaN(); }},
        {"an infinite scale", [](problem& p) { p.options.scale = std::numeric_limits<float>::infinity(); }},
        {"a window of nothing", [](problem& p) { p.options.window = 0; }},
    };
}

} // namespace

TEMPLATE_LIST_TEST_CASE("a malformed problem is refused before anything is written", "", all_kinds) {
    for (const auto& [name, spoil] : all_faults<TestType>()) {
        CAPTURE(name);
        two_sequences<TestType> problem;
        REQUIRE(problem.attend().ok());
        REQUIRE_FALSE(problem.other.wrote_nothing());
        problem.good.forget();
        problem.other.forget();

        spoil(problem);
        const status refused = problem.attend();
        CHECK(refused.code() == errc::invalid_argument);
        CHECK(refused.error().where == verb::attend);
        CHECK(problem.good.wrote_nothing());
        CHECK(problem.other.wrote_nothing());
    }
}

TEMPLATE_LIST_TEST_CASE("a problem without sequences, queries or rows is no error", "", all_kinds) {
    using stored = typename TestType::stored;
    using query = typename TestType::query;
    attention::problem<stored, query> asked;
    REQUIRE(typename TestType::policy{}(asked, attention::inline_executor{}).ok());

    attention::sequence<stored, query> nothing{};
    asked.sequences = {&nothing, 1};
    REQUIRE(typename TestType::policy{}(asked, attention::inline_executor{}).ok());

    const attention::kv_head<stored> empty_head{};
    const std::array<query, 4> queries{};
    std::array<float, 4> output{1, 1, 1, 1};
    const attention::sequence<stored, query> blind{.queries = make_view(queries.data(), 2, 1, 2),
                                                   .heads = {&empty_head, 1},
                                                   .output = make_view(output.data(), 2, 1, 2)};
    asked.sequences = {&blind, 1};
    REQUIRE(typename TestType::policy{}(asked, attention::inline_executor{}).ok());
    CHECK(output == std::array<float, 4>{});
}

TEST_CASE("heads are described only from views that agree") {
    std::array<attention::kv_head<float>, 2> heads{};
    const std::vector<float> memory(2 * 3 * 5);
    const auto keys = make_view(memory.data(), 3, 2, 5);
    const auto describe = [&](tensor_view<const float, 3> k, tensor_view<const float, 3> v,
                              std::size_t count) {
        return attention::describe_heads<float>(std::span{heads}.first(count), k, v).code();
    };
    CHECK(describe(keys, make_view(memory.data(), 2, 2, 5), 2) == errc::invalid_argument);
    CHECK(describe(keys, make_view(memory.data(), 3, 1, 5), 2) == errc::invalid_argument);
    CHECK(describe(keys, keys, 1) == errc::invalid_argument);
    auto spread = keys;
    spread.strides[2] = 2;
    CHECK(describe(keys, spread, 2) == errc::invalid_argument);
    CHECK(describe(spread, keys, 2) == errc::invalid_argument);
    CHECK(heads[0].keys == nullptr);

    REQUIRE(describe(keys, make_view(memory.data(), 3, 2, 4), 2) == errc::ok);
    CHECK(heads[1].keys == memory.data() + 5);
    CHECK(heads[1].values == memory.data() + 4);
    CHECK(heads[1].key_stride == 10);
    CHECK(heads[1].value_stride == 8);
    CHECK(heads[1].rows == 3);
}
