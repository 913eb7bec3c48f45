// SPDX-License-Identifier: Apache-2.0
//
// The program as a user meets it: one file, one line, or one sentence and exit code 2.
#include "recorded.hpp"

#include <support/catch.hpp>

#include "support/spawn.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using decoder_test::content_of;
using decoder_test::finished;
namespace fs = std::filesystem;

namespace {

finished run(const std::vector<std::string>& words) {
    return decoder_test::spawn(VTENSOR_MEMORY_MAP_PROGRAM, words);
}

void check_refused(const std::vector<std::string>& words, const std::string& says) {
    const finished end = run(words);
    CAPTURE(words, end.err);
    CHECK(end.code == 2);
    CHECK(end.out.empty());
    CHECK(std::count(end.err.begin(), end.err.end(), '\n') == 1);
    CHECK(end.err.starts_with("memory_map: "));
    CHECK_THAT(end.err, ContainsSubstring(says));
}

} // namespace

TEST_CASE("memory_map writes a page of a story that has all there is to show") {
    const decoder_test::temporary_directory folder;
    const std::string path = (folder.path() / "map.html").string();
    const finished end = run({"--output", path});
    CHECK(end.code == 0);
    CHECK(end.err.empty());
    CHECK_THAT(end.out, ContainsSubstring(path));

    const std::string page = content_of(path);
    CHECK(page.size() < 1'000'000);
    CHECK(page.starts_with("<!DOCTYPE html>"));
    const auto timeline = nlohmann::json::parse(memory_map::testing::timeline_in(page));
    std::set<std::string> seen;
    for (const auto& step : timeline.at("steps")) {
        seen.insert(step.at("op"));
        CHECK(step.at("op") != "failed");
        if (step.at("op") == "access")
            seen.insert(step.at("allowed"));
    }
    CHECK(seen == std::set<std::string>{"mark", "reserve", "release", "create", "destroy", "map", "access",
                                        "unmap", "read", "read_write"});
    CHECK(timeline.at("totals").at("shared").back() > 0);
    CHECK(run({"--output", path}).code == 0); // and replaces it
    CHECK(content_of(path).size() == page.size());
}

TEST_CASE("memory_map shows a manager that never has more memory than it may have") {
    const decoder_test::temporary_directory folder;
    const std::string path = (folder.path() / "map.html").string();
    const finished end = run({"--story", "manager", "--output", path});
    CHECK(end.code == 0);
    CHECK(end.err.empty());

    const auto timeline = nlohmann::json::parse(memory_map::testing::timeline_in(content_of(path)));
    for (const auto& step : timeline.at("steps"))
        CHECK(step.at("op") != "failed");
    const auto most = [&](const char* of) {
        std::size_t found = 0;
        for (const std::size_t bytes : timeline.at("totals").at(of))
            found = std::max(found, bytes);
        return found / timeline.at("page").get<std::size_t>();
    };
    CHECK(most("physical") == 40);
    CHECK(most("shared") >= 20); // two answers to one question, and its system prompt
    CHECK(most("mapped") > most("physical"));
}

TEST_CASE("memory_map says in one sentence why it wrote nothing") {
    check_refused({"--output", "/nonexistent/map.html"}, "cannot write /nonexistent/map.html: No such file");
    check_refused({"--output", "/"}, "cannot write /");
    check_refused({"--output"}, "--output");
    check_refused({"--speed", "11"}, "see --help");
    check_refused({"--story", "prince"}, "--story");
    check_refused({"word"}, "see --help");
    if (fs::exists("/dev/full"))
        check_refused({"--output", "/dev/full"}, "No space left on device");
}

TEST_CASE("memory_map explains itself") {
    CHECK_THAT(run({"--help"}).out, ContainsSubstring("--output"));
    CHECK(run({"--version"}).out.starts_with("memory_map "));
}
