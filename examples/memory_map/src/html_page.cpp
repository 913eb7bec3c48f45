// SPDX-License-Identifier: Apache-2.0
#include "html_page.hpp"

#include "page_parts.hpp"

#include <nlohmann/json.hpp>

#include <string_view>

namespace memory_map {

namespace {

/// JSON that may stand inside a <script> element: without "<" no tag and no comment begins in it. What is no
/// UTF-8 becomes U+FFFD.
std::string script_text(const nlohmann::ordered_json& value) {
    const std::string plain = value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    std::string safe;
    safe.reserve(plain.size());
    for (const char each : plain) {
        if (each == '<')
            safe += "\\u003c";
        else
            safe += each;
    }
    return safe;
}

std::string html_text(const nlohmann::ordered_json& text) {
    std::string quoted = text.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    std::string safe;
    for (const char each : nlohmann::ordered_json::parse(quoted).get<std::string>()) {
        if (each == '<')
            safe += "&lt;";
        else if (each == '&')
            safe += "&amp;";
        else
            safe += each;
    }
    return safe;
}

/// Copies the page and puts a part in each of its places, in one pass: what is put in is not searched.
std::string fill(std::string_view page, const nlohmann::ordered_json& timeline) {
    std::string result;
    for (;;) {
        const std::size_t open = page.find("{{");
        result += page.substr(0, open);
        if (open == std::string_view::npos)
            return result;
        const std::size_t close = page.find("}}", open);
        const std::string_view name = page.substr(open + 2, close - open - 2);
        if (name == "title")
            result += html_text(timeline.at("title"));
        else if (name == "style")
            result += parts::style;
        else if (name == "model")
            result += parts::model;
        else if (name == "picture")
            result += parts::picture;
        else if (name == "view")
            result += parts::view;
        else if (name == "timeline")
            result += script_text(timeline);
        page.remove_prefix(close + 2);
    }
}

} // namespace

std::string make_html(const nlohmann::ordered_json& timeline) { return fill(parts::page, timeline); }

} // namespace memory_map
