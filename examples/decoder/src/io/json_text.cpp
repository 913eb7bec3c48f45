// SPDX-License-Identifier: Apache-2.0
#include "io/json_text.hpp"

#include "io/input_error.hpp"

#include <nlohmann/json.hpp>

#include <unordered_set>
#include <vector>

namespace decoder {

namespace {

/// Watches the parser: one set of names for every object that is open.
class watcher {
  public:
    watcher(const std::string& what, std::size_t deepest) : what_{what}, deepest_{deepest} {}

    bool operator()(int depth, nlohmann::json::parse_event_t event, const nlohmann::json& value) {
        using event_type = nlohmann::json::parse_event_t;
        const bool opens = event == event_type::object_start || event == event_type::array_start;
        if (opens && static_cast<std::size_t>(depth) >= deepest_)
            refuse(what_ + " nests deeper than " + std::to_string(deepest_) +
                   " levels; it is damaged or not what its name says");
        if (event == event_type::object_start)
            names_.emplace_back();
        else if (event == event_type::object_end)
            names_.pop_back();
        else if (event == event_type::key)
            note(value.get_ref<const std::string&>());
        return true;
    }

  private:
    void note(const std::string& name) {
        if (!names_.back().insert(name).second)
            refuse(what_ + " has the name \"" + printable(name) + "\" twice in one object; it is damaged");
    }

    const std::string& what_;
    std::size_t deepest_;
    std::vector<std::unordered_set<std::string>> names_;
};

} // namespace

nlohmann::json parse_json(std::string_view text, const std::string& what, std::size_t deepest) {
    watcher watch{what, deepest};
    try {
        return nlohmann::json::parse(text.begin(), text.end(),
                                     [&watch](int depth, nlohmann::json::parse_event_t event,
                                              nlohmann::json& value) { return watch(depth, event, value); });
    } catch (const nlohmann::json::parse_error& failure) {
        refuse(what + " is not valid JSON (at byte " + std::to_string(failure.byte) +
               "); it is damaged or cut short, fetch it again");
    } catch (const nlohmann::json::exception&) { // numbers beyond every range
        refuse(what + " holds a number that cannot be represented; it is damaged");
    }
}

} // namespace decoder
