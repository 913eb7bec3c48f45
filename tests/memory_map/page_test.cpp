// SPDX-License-Identifier: Apache-2.0
//
// The file: whole by itself, and names are text in it whatever they hold.
#include "recorded.hpp"

#include <html_page.hpp>
#include <timeline.hpp>

#include <support/catch.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <string>

namespace memory_map::testing {
namespace {

using namespace vtensor;
using Catch::Matchers::ContainsSubstring;
using json = nlohmann::ordered_json;

std::size_t times(const std::string& text, const std::string& what) {
    std::size_t count = 0;
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size()))
        ++count;
    return count;
}

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char each) { return static_cast<char>(std::tolower(each)); });
    return text;
}

const std::string hostile[] = {
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "]]>",
    "\"; alert(1); \"",
    "a\\",
    "{{view}}",
    "line\nbreak\ttab",
    std::string{"nul\0byte", 8},
    "Gespräch “A” 🙂",
    "\xe2\x80\xa8",
    "&amp;<b>",
};

TEST_CASE("a name is text, whatever it holds") {
    recorder plain;
    plain.say("title", "text");
    const std::string usual = make_html(make_timeline("plain", plain.entries()));
    for (const std::string& name : hostile) {
        CAPTURE(name);
        host_backend memory;
        recorder notes;
        traced_host traced{memory, notes};
        const auto where = *traced.reserve(4_KiB, 0_B);
        notes.name(where, name);
        notes.say(name, name);
        const std::string page = make_html(make_timeline(name, notes.entries()));
        const json read = json::parse(timeline_in(page));
        CHECK(read.at("title") == name);
        CHECK(read.at("lanes").at(0).at("name") == name);
        CHECK(read.at("steps").at(1).at("title") == name);
        CHECK(read.at("steps").at(1).at("text") == name);
        for (const char* const tag : {"<script", "</script", "<!--", "<b>", "const timeline", "<title>"})
            CHECK(times(page, tag) == times(usual, tag));
        REQUIRE(traced.release(where, 4_KiB).ok());
    }
}

TEST_CASE("a name that is no UTF-8 is shown as far as it can be") {
    recorder notes;
    notes.say("caf\xe9", "");
    const json read = json::parse(timeline_in(make_html(make_timeline("caf\xe9", notes.entries()))));
    CHECK(read.at("steps").at(0).at("title") == "caf\xef\xbf\xbd");
}

TEST_CASE("the page needs nothing but itself") {
    recorder notes;
    notes.say("title", "text");
    const std::string page = make_html(make_timeline("plain", notes.entries()));
    const std::string small = lower(page);
    for (const char* const link :
         {"http:", "https:", "src=", "href=", "@import", "url(", "fetch(", "//cdn", "{{"})
        CHECK(times(small, link) == 0);
    CHECK_THAT(page, ContainsSubstring("default-src 'none'"));
    CHECK(times(page, "<script>") == times(page, "</script>"));
    CHECK(times(page, "<style>") == 1);
    CHECK(page.size() < 100'000);
}

} // namespace
} // namespace memory_map::testing
