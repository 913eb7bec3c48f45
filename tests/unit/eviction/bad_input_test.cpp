// SPDX-License-Identifier: Apache-2.0
// Evidence and members that are wrong, budgets and windows at the edge of what makes sense.
#include "all_methods.hpp"
#include "world.hpp"

#include <vtensor/policy/eviction/methods.hpp>

#include <support/catch.hpp>

#include <cstddef>
#include <limits>
#include <vector>

namespace vtensor::testing {

namespace {

namespace ev = eviction;

/// Chooses over `kept` that holds something, and checks that a refusal leaves it.
errc outcome_of(const named_method& method, const world& shown, const method_settings& settings = {}) {
    ev::workspace memory;
    ev::kept_rows kept;
    const std::vector<slot_type> before{1, 5};
    REQUIRE(kept.reset(1, 1).ok());
    REQUIRE(kept.add(before).ok());
    const status outcome = method.choose(settings, shown.evidence(), memory, kept);
    if (!outcome) {
        REQUIRE(outcome.error().where == verb::choose);
        REQUIRE(kept.layers() == 1);
        REQUIRE(std::ranges::equal(kept.of(0, 0), before));
    }
    return outcome.code();
}

/// The refusal of a composition whose part was changed.
template <class Policy, class Change>
errc outcome_of(const Change& change) {
    const world shown{{}};
    Policy policy;
    change(policy);
    ev::workspace memory;
    ev::kept_rows kept;
    return policy.choose(shown.evidence(), memory, kept).code();
}

} // namespace

TEST_CASE("evidence that a method needs and is not shown is refused", "[eviction]") {
    for (const named_method& method : all_methods()) {
        INFO(method.name);
        const ev::evidence_needs needs = method.needs();
        const auto refused = [&](bool needed, auto&& damage) {
            world shown{{.layers = 2}};
            damage(shown.layer(1));
            const errc code = outcome_of(method, shown);
            CHECK(code == (needed ? errc::invalid_argument : errc::ok));
        };
        using layer = ev::layer_evidence;
        refused(needs.window_queries != 0, [](layer& one) { one.probabilities.data = nullptr; });
        refused(needs.window_queries != 0, [](layer& one) { one.probabilities.extents[0] = 3; });
        refused(needs.window_queries != 0, [](layer& one) { one.probabilities.extents[0] = 0; });
        refused(needs.window_queries != 0, [](layer& one) { one.probabilities.extents[1] = 0; });
        refused(needs.window_queries != 0, [](layer& one) { --one.probabilities.extents[2]; });
        refused(needs.accumulated, [](layer& one) { one.accumulated.data = nullptr; });
        refused(needs.accumulated, [](layer& one) { one.accumulated.extents[0] = 1; });
        refused(needs.accumulated, [](layer& one) { --one.accumulated.extents[1]; });
        refused(needs.key_norms, [](layer& one) { one.key_norms.extents[0] = 1; });
        refused(needs.key_norms, [](layer& one) { one.key_norms = {}; });
        refused(needs.key_similarity, [](layer& one) { --one.key_similarity.extents[1]; });
        refused(needs.output_norms, [](layer& one) { one.output_norms.data = nullptr; });
        refused(needs.recurrence, [](layer& one) { one.recurrence = {}; });
    }
}

TEST_CASE("heads that contradict themselves or one another are refused", "[eviction]") {
    for (const named_method& method : all_methods()) {
        INFO(method.name);
        {
            world shown{{.layers = 2}};
            shown.layer(0).heads = shown.layer(0).heads.first(1); // fewer than the other layer has
            CHECK(outcome_of(method, shown) == errc::invalid_argument);
        }
        {
            world shown{{}};
            shown.layer(0).heads = {};
            CHECK(outcome_of(method, shown) == errc::invalid_argument);
        }
        {
            world shown{{}};
            shown.layer(0).next_position = 99; // position 99 is there
            CHECK(outcome_of(method, shown) == errc::invalid_argument);
        }
        {
            world shown{{.shuffled = true}};
            const_cast<position_type&>(shown.positions(0, 1)[3]) = shown.positions(0, 1)[70];
            CHECK(outcome_of(method, shown) == errc::invalid_argument);
        }
        {
            world shown{{.layers = 2}};
            shown.layer(1).next_position = 120; // a model whose layers have seen different tokens
            const bool model =
                method.sharing == shared_among::model || method.sharing == shared_among::windows;
            CHECK(outcome_of(method, shown) == (model ? errc::invalid_argument : errc::ok));
        }
    }
}

TEST_CASE("scores that are not finite are refused wherever they come from", "[eviction]") {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()})
        for (const std::size_t slot : {std::size_t{0}, std::size_t{41}, std::size_t{93}})
            for (const named_method& method : all_methods()) {
                INFO(method.name << ", slot " << slot << ", " << bad);
                const ev::evidence_needs needs = method.needs();
                const auto not_finite = [&](bool needed, auto&& array) {
                    world shown{{}};
                    auto& all = array(shown.stored(0));
                    all[all.size() - 100 + slot] = bad; // of the last head and query
                    CHECK(outcome_of(method, shown) == (needed ? errc::not_finite : errc::ok));
                };
                using arrays = world::arrays;
                not_finite(
                    needs.window_queries != 0, [](arrays & a) -> auto& { return a.probabilities; });
                not_finite(
                    needs.accumulated, [](arrays & a) -> auto& { return a.accumulated; });
                not_finite(
                    needs.key_norms, [](arrays & a) -> auto& { return a.norms; });
                not_finite(
                    needs.key_similarity, [](arrays & a) -> auto& { return a.similarity; });
                not_finite(
                    needs.output_norms, [](arrays & a) -> auto& { return a.output; });
                not_finite(
                    needs.recurrence, [](arrays & a) -> auto& { return a.recurrence; });
            }
}

TEST_CASE("members outside their domain are refused", "[eviction]") {
    const auto removing = [](double ratio) {
        return outcome_of<ev::snapkv<>>(
            [&](auto& policy) { policy.set_amount(ev::amount::removing(ratio)); });
    };
    CHECK(removing(0) == errc::ok);
    CHECK(removing(1) == errc::ok);
    CHECK(removing(-0.1) == errc::invalid_argument);
    CHECK(removing(1.1) == errc::invalid_argument);
    CHECK(removing(std::numeric_limits<double>::quiet_NaN()) == errc::invalid_argument);
    const auto refused = errc::invalid_argument;
    CHECK(outcome_of<ev::snapkv<>>([](auto& p) { p.template get<ev::part::pooling>().width = 4; }) ==
          refused);
    CHECK(outcome_of<ev::snapkv<>>([](auto& p) { p.template get<ev::part::indicator>().queries = 0; }) ==
          refused);
    CHECK(outcome_of<ev::ada<ev::snapkv<>>>([](auto& p) { p.template get<ev::part::budget>().floor = 2; }) ==
          refused);
    CHECK(outcome_of<ev::pyramid_snapkv<>>([](auto& p) { p.template get<ev::part::budget>().beta = 0; }) ==
          refused);
    CHECK(outcome_of<ev::window_kv<>>([](auto& p) { p.template get<ev::part::selection>().width = 0; }) ==
          refused);
    CHECK(outcome_of<ev::window_kv<>>(
              [](auto& p) { p.template get<ev::part::budget>().layers_per_group = 0; }) == refused);
    CHECK(outcome_of<ev::critical<ev::snapkv<>>>(
              [](auto& p) { p.template get<ev::part::protection>().share = -1; }) == refused);
}

TEST_CASE("a budget of nothing leaves the guards, a large one everything", "[eviction]") {
    const world shown{{.layers = 2, .kv_heads = 3, .missing = 0.3, .ragged = true}};
    for (const named_method& method : all_methods()) {
        INFO(method.name);
        ev::workspace memory;
        ev::kept_rows kept;
        for (const std::size_t huge :
             {std::size_t{100}, std::size_t{1} << 40, std::numeric_limits<std::size_t>::max() - 1}) {
            REQUIRE(method.choose({.tokens = huge}, shown.evidence(), memory, kept).ok());
            for (std::size_t layer = 0; layer < 2 && !method.guards_only; ++layer)
                for (std::size_t head = 0; head < 3; ++head)
                    REQUIRE(kept.of(layer, head).size() == shown.live(layer, head).size());
        }
        REQUIRE(method.choose({.tokens = 0}, shown.evidence(), memory, kept).ok());
        for (std::size_t layer = 0; layer < 2; ++layer)
            for (std::size_t head = 0; head < 3; ++head)
                for (const position_type position : shown.kept(kept, layer, head))
                    REQUIRE((position + method.window({}) >= 100 || position < method.sinks({})));
    }
}

TEST_CASE("a window longer than the context keeps everything", "[eviction]") {
    const world shown{{.missing = 0.3, .ragged = true}};
    for (const named_method& method : all_methods())
        for (const std::size_t window : {std::size_t{100}, std::size_t{101}, std::size_t{1} << 40}) {
            if (method.window({.window = window}) != window)
                continue; // it has none
            INFO(method.name);
            ev::workspace memory;
            ev::kept_rows kept;
            REQUIRE(method.choose({.tokens = 2, .window = window}, shown.evidence(), memory, kept).ok());
            for (std::size_t head = 0; head < 2; ++head)
                REQUIRE(kept.of(0, head).size() == shown.live(0, head).size());
        }
}

TEST_CASE("evicting twice with a ratio removes nothing more", "[eviction]") {
    const world shown{{.missing = 0.5}};
    ev::knorm policy;
    policy.set_amount(ev::amount::removing(0.4));
    ev::workspace memory;
    ev::kept_rows kept;
    REQUIRE(policy.choose(shown.evidence(), memory, kept).ok());
    for (std::size_t head = 0; head < 2; ++head)
        REQUIRE(kept.of(0, head).size() == shown.live(0, head).size()); // fewer than 60 of 100 are left
}

TEST_CASE("the lists of kept rows are given in order and ascend", "[eviction]") {
    ev::kept_rows kept;
    const std::vector<slot_type> good{2, 3, 9}, twice{2, 2}, falling{3, 1};
    REQUIRE(kept.add(good).code() == errc::invalid_argument); // none was asked for
    REQUIRE(kept.reset(1, 2).ok());
    REQUIRE(kept.add(twice).code() == errc::invalid_argument);
    REQUIRE(kept.add(falling).code() == errc::invalid_argument);
    REQUIRE(kept.of(0, 1).empty());
    REQUIRE(kept.add({}).ok());
    REQUIRE(kept.add(good).ok());
    REQUIRE(kept.add(good).code() == errc::invalid_argument); // both have one
    REQUIRE(kept.of(0, 0).empty());
    REQUIRE(std::ranges::equal(kept.of(0, 1), good));
    REQUIRE(kept.total() == 3);
    REQUIRE(kept.reset(3, 1).ok());
    REQUIRE(kept.total() == 0);
    REQUIRE(kept.of(2, 0).empty());
}

} // namespace vtensor::testing
