// SPDX-License-Identifier: Apache-2.0
//
// The steps that the page is given: they lead, one by one, to what the model says.
#include "recorded.hpp"

#include <manager_story.hpp>
#include <story.hpp>
#include <timeline.hpp>

#include <support/catch.hpp>

#include <nlohmann/json.hpp>

#include <map>
#include <utility>

namespace memory_map::testing {
namespace {

using namespace vtensor;
using json = nlohmann::ordered_json;

/// What the steps lead to, page by page: a second reader of them, which knows only the JSON.
struct pages_of_steps {
    std::map<std::pair<std::size_t, std::size_t>, std::pair<std::uint64_t, std::string>> pages;
    std::map<std::uint64_t, std::size_t> chunks;

    void apply(const json& step) {
        const std::string op = step.at("op");
        if (op == "create") {
            chunks[step.at("chunk")] = step.at("pages");
        } else if (op == "destroy") {
            chunks.erase(step.at("chunk").get<std::uint64_t>());
        } else if (op == "map") {
            REQUIRE(chunks.at(step.at("chunk")) == step.at("pages"));
            pages[{step.at("lane"), step.at("page")}] = {step.at("chunk"), "none"};
        } else if (op == "access" || op == "unmap") {
            const std::size_t first = step.at("page");
            for (std::size_t page = first; page < first + step.at("pages").get<std::size_t>(); ++page) {
                const auto found = pages.find({step.at("lane"), page});
                REQUIRE(found != pages.end());
                if (op == "unmap")
                    pages.erase(found);
                else
                    found->second.second = step.at("allowed");
            }
        }
    }
};

TEST_CASE("the steps of a story lead to what the pool, the tensors and the model say") {
    const told_story story = GENERATE(tell_story, tell_manager_story)();
    const json timeline = make_timeline("a story", story.entries);
    const memory_model model = replay(story.entries);

    CHECK(model.totals().physical == story.pool.created);
    CHECK(model.totals().mapped == story.mapped);
    CHECK(model.totals().reserved >= story.reserved); // beside the tensors there are spare addresses

    const json& steps = timeline.at("steps");
    const json& totals = timeline.at("totals");
    pages_of_steps reader;
    std::size_t index = 0;
    for (const json& step : steps) {
        reader.apply(step);
        CHECK(totals.at("mapped").at(index) == reader.pages.size() * timeline.at("page").get<std::size_t>());
        ++index;
    }
    for (const char* const kind : {"reserved", "mapped", "physical", "shared"})
        CHECK(totals.at(kind).size() == steps.size());
    CHECK(totals.at("reserved").back() == model.totals().reserved.count());
    CHECK(totals.at("physical").back() == model.totals().physical.count());
    CHECK(totals.at("shared").back() == model.totals().shared.count());

    // Every page of the end is told, and no other.
    std::size_t pages = 0;
    for (const auto& [lane, mapped] : timeline.at("end").at("lanes").items()) {
        for (const json& each : mapped) {
            const auto found = reader.pages.find({std::stoul(lane), each.at(0).get<std::size_t>()});
            REQUIRE(found != reader.pages.end());
            CHECK(found->second == std::pair<std::uint64_t, std::string>{each.at(2), each.at(3)});
            ++pages;
        }
    }
    CHECK(pages == reader.pages.size());
    CHECK(pages == model.mappings().size());
    CHECK(pages > 0);
}

TEST_CASE("a picture has a lane for each name, and one for spare addresses that come one after another") {
    host_backend memory;
    recorder notes;
    traced_host traced{memory, notes};
    const bytes page = traced.granularity();
    const auto kept = *traced.reserve(4 * page, 0_B);
    notes.name(kept + page, "first name");
    for (int round = 0; round < 3; ++round) {
        const auto spare = *traced.reserve(page, 0_B);
        REQUIRE(traced.release(spare, page).ok());
    }
    notes.name(kept, "second name");
    notes.name(address{std::uintptr_t{1}}, "nobody");
    const auto one = *traced.reserve(page, 0_B);
    const auto other = *traced.reserve(1000 * page, 0_B);
    const auto chunk = *traced.create(2 * page);
    REQUIRE(traced.map(kept + 2 * page, chunk).ok());
    notes.rows({kept, 7, {7, 3}});
    REQUIRE_FALSE(traced.map(kept, {}).ok());

    const json timeline = make_timeline("lanes", notes.entries());
    const json& lanes = timeline.at("lanes");
    REQUIRE(lanes.size() == 6);
    CHECK(timeline.at("page") == page.count());
    CHECK(lanes[0] == json({{"pages", 4}, {"drawn", 4}, {"name", "first name"}}));
    for (const std::size_t index : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{4}})
        CHECK(lanes[index] == json({{"pages", 1}, {"drawn", 1}, {"spare", 0}}));
    CHECK(lanes[5] == json({{"pages", 1000}, {"drawn", 4}, {"spare", 1}}));
    const json& steps = timeline.at("steps");
    CHECK(steps.at(steps.size() - 2) ==
          json({{"op", "map"},
                {"lane", 0},
                {"page", 2},
                {"pages", 2},
                {"chunk", 1},
                {"also", json::array({{{"op", "rows"}, {"lane", 0}, {"of", 7}, {"live", {7, 3}}}})}}));
    CHECK(steps.back() == json({{"op", "failed"}, {"verb", "map"}, {"code", "unknown_chunk"}}));
    CHECK(timeline.at("end").at("lanes").at("0") == json::array({json::array({2, 2, 1, "none"})}));
    CHECK(timeline.at("end").at("chunks") == json::array({1}));

    REQUIRE(traced.unmap(kept + 2 * page, 2 * page).ok());
    REQUIRE(traced.release(kept, 4 * page).ok());
    REQUIRE(traced.release(one, page).ok());
    REQUIRE(traced.release(other, 1000 * page).ok());
}

TEST_CASE("nothing recorded is a picture of nothing") {
    const json timeline = make_timeline("nothing", {});
    CHECK(timeline.at("steps").empty());
    CHECK(timeline.at("lanes").empty());
    recorder notes;
    notes.say("A word", "and no call");
    CHECK(make_timeline("a word", notes.entries()).at("steps").size() == 1);
}

} // namespace
} // namespace memory_map::testing
