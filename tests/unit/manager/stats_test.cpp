// SPDX-License-Identifier: Apache-2.0
//
// What a manager says of itself: the figures against what was done, and both texts.
#include "engine.hpp"

#include <vtensor/kv/stats_text.hpp>

#include <regex>
#include <set>
#include <sstream>
#include <string>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// The value of a line of Prometheus' text, or "".
std::string value_of(const std::string& text, const std::string& name) {
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with(name + ' '))
            return line.substr(name.size() + 1);
    return {};
}

} // namespace

TEST_CASE("The statistics count what was done and what there is") {
    host_backend memory;
    engine<>::pool_type pool{memory, {}};
    engine<> now{pool};
    const auto one = now.create(text(100)).value().id;
    REQUIRE(now.manager->try_record(one));
    const auto two = now.create(text(100)).value();
    REQUIRE(now.extend(two.id, {1, 2, 3}));
    CHECK_FALSE(now.extend(kv::sequence_id{}, {1}));
    REQUIRE(now.release(one));
    const kv::manager_stats seen = now.manager->stats();
    CHECK(seen.running == 1);
    CHECK(seen.tokens == 103);
    CHECK(seen.prompt_tokens == 200);
    CHECK(seen.matched_tokens == two.matched);
    CHECK(seen.hit_rate() == Catch::Approx(99.0 / 200));
    CHECK(seen.physical == pool.stats().in_use);
    CHECK(seen.mapped == seen.physical + seen.shared);
    CHECK(seen.shared == pool.chunk_size() * (3 * engine<>::pages_together));
    CHECK(seen.lazily_held == pool.chunk_size() * (4 * engine<>::pages_together));
    CHECK(seen.recorded == seen.lazily_held);
    CHECK(seen.own == bytes{103u * 128u * engine<>::pages_together});
    CHECK(seen.own + seen.waste == pool.chunk_size() * (4 * engine<>::pages_together));
    const auto& extend = seen.verbs[static_cast<std::size_t>(kv::manager_verb::extend)];
    CHECK(extend.calls == 2);
    CHECK(extend.failures == 1);
    CHECK(extend.nanoseconds > 0);
    CHECK(seen.verbs[static_cast<std::size_t>(kv::manager_verb::fork)].calls == 0);
    CHECK(seen.reserved > seen.mapped);
}

TEST_CASE("The texts have every figure once, as their formats want it") {
    kv::manager_stats some;
    some.running = 3;
    some.mapped = 12_KiB;
    some.prompt_tokens = 8;
    some.matched_tokens = 2;
    some.verbs[1] = {5, 1, 2'500'000'000};

    const std::string json = kv::to_json(some);
    CHECK(json.front() == '{');
    CHECK(json.back() == '}');
    CHECK(json.find("\"running\":3,") != std::string::npos);
    CHECK(json.find("\"mapped_bytes\":12288,") != std::string::npos);
    CHECK(json.find("\"hit_rate\":0.25") != std::string::npos);
    CHECK(json.find("\"extend\":{\"calls\":5,\"failures\":1,\"microseconds\":2500000}") != std::string::npos);

    const std::string prometheus = kv::to_prometheus(some);
    CHECK(value_of(prometheus, "vtensor_kv_running") == "3");
    CHECK(value_of(prometheus, "vtensor_kv_matched_tokens_total") == "2");
    CHECK(value_of(prometheus, "vtensor_kv_seconds_total{verb=\"extend\"}") == "2.5");
    const std::regex sample{R"(^[a-z_]+(\{verb="[a-z]+"\})? [0-9.e+-]+$)"};
    const std::regex comment{R"(^# (HELP|TYPE) [a-z_]+ .+$)"};
    std::set<std::string> names;
    std::istringstream lines{prometheus};
    for (std::string line; std::getline(lines, line);) {
        INFO(line);
        const bool is_sample = std::regex_match(line, sample);
        REQUIRE((is_sample || std::regex_match(line, comment)));
        if (is_sample)
            CHECK(names.insert(line.substr(0, line.find(' '))).second);
    }
    CHECK(names.size() == 17 + 3 * kv::manager_verb_names.size());
    CHECK(kv::to_prometheus(some, "engine_").starts_with("# HELP engine_running "));
}
