// SPDX-License-Identifier: Apache-2.0
#include "timeline.hpp"

#include "memory_model.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
#include <type_traits>
#include <vector>

namespace memory_map {

namespace {

using json = nlohmann::ordered_json;
using vtensor::address;
using vtensor::bytes;
using vtensor::errc;
using vtensor::verb;
using vtensor::adaptors::trace_event;

/// The page of the picture: the largest size that every chunk and every reservation is a multiple of.
std::size_t page_of(std::span<const entry> entries) {
    std::size_t page = 0;
    for (const entry& each : entries) {
        const auto* const event = std::get_if<trace_event>(&each);
        if (event != nullptr && event->outcome == errc::ok &&
            (event->what == verb::create || event->what == verb::import_chunk ||
             event->what == verb::reserve))
            page = std::gcd(page, event->size.count());
    }
    return std::max<std::size_t>(page, 1);
}

const char* word_for(vtensor::access_mode allowed) {
    switch (allowed) {
    case vtensor::access_mode::read:
        return "read";
    case vtensor::access_mode::read_write:
        return "read_write";
    default:
        return "none";
    }
}

class drawing {
  public:
    drawing(const std::string& title, std::span<const entry> entries) : page_{page_of(entries)} {
        for (const entry& each : entries)
            std::visit([&](const auto& what) { add(what); }, each);
        result_["title"] = title;
        result_["page"] = page_;
        result_["lanes"] = lanes();
        result_["steps"] = std::move(steps_);
        result_["totals"] = {
            {"reserved", reserved_}, {"mapped", mapped_}, {"physical", physical_}, {"shared", shared_}};
        result_["end"] = end();
    }

    [[nodiscard]] json take() { return std::move(result_); }

  private:
    /// One reservation. Those without a name take the places of others that have gone, so that the many that
    /// the library makes for a moment do not each take a line.
    struct lane {
        std::size_t pages = 0;
        std::size_t used = 0; ///< behind the last page that was ever mapped
        std::optional<std::string> name{};
        std::size_t from = 0; ///< the steps between which it exists
        std::size_t to = 0;
    };

    void add(const mark& what) { step({{"op", "mark"}, {"title", what.title}, {"text", what.text}}); }

    void add(const label& what) {
        if (const auto id = lane_at(what.where)) {
            if (!lanes_[*id].name)
                lanes_[*id].name = what.name;
            also({{"op", "name"}, {"lane", *id}, {"name", what.name}});
        }
    }

    void add(const live_rows& what) {
        if (const auto id = lane_at(what.where))
            also({{"op", "rows"}, {"lane", *id}, {"of", what.rows_per_page}, {"live", what.live}});
    }

    void add(const trace_event& event) {
        if (event.outcome != errc::ok) {
            step({{"op", "failed"}, {"verb", name(event.what)}, {"code", name(event.outcome)}});
            return;
        }
        if (event.what == verb::release)
            close(event.where);
        model_.apply(event);
        if (event.what == verb::reserve)
            open(event.where, event.size);
        step(words_of(event));
    }

    [[nodiscard]] json words_of(const trace_event& event) {
        const std::string what{name(event.what)};
        switch (event.what) {
        case verb::reserve:
            return {{"op", what}, {"lane", lane_of_.at(event.where)}};
        case verb::release:
            return {{"op", what}, {"lane", released_}};
        case verb::create:
        case verb::import_chunk:
            return {{"op", "create"}, {"chunk", event.chunk}, {"pages", pages(event.size)}};
        case verb::destroy:
            return {{"op", what}, {"chunk", event.chunk}};
        case verb::map: {
            json words = place("map", event.where, event.size);
            words["chunk"] = event.chunk;
            return words;
        }
        case verb::set_access: {
            json words = place("access", event.where, event.size);
            words["allowed"] = word_for(event.allowed);
            return words;
        }
        case verb::unmap:
            return place("unmap", event.where, event.size);
        default:
            return {{"op", "other"}, {"verb", what}};
        }
    }

    [[nodiscard]] json place(const char* what, address where, bytes size) {
        const auto around = model_.reservation_at(where);
        const std::size_t id = lane_of_.at(around->first);
        const std::size_t first = pages(where - around->first);
        lanes_[id].used = std::max(lanes_[id].used, first + pages(size));
        return {{"op", what}, {"lane", id}, {"page", first}, {"pages", pages(size)}};
    }

    void step(json what) {
        steps_.push_back(std::move(what));
        const figures& now = model_.totals();
        reserved_.push_back(now.reserved.count());
        mapped_.push_back(now.mapped.count());
        physical_.push_back(now.physical.count());
        shared_.push_back(now.shared.count());
    }

    /// What goes with the step before.
    void also(json what) {
        if (steps_.empty())
            step({{"op", "mark"}, {"title", ""}, {"text", ""}});
        steps_.back()["also"].push_back(std::move(what));
    }

    void open(address where, bytes size) {
        lane_of_[where] = lanes_.size();
        lanes_.push_back({pages(size), 0, {}, steps_.size(), 0});
    }

    void close(address where) {
        if (const auto found = lane_of_.find(where); found != lane_of_.end()) {
            released_ = found->second;
            lanes_[released_].to = steps_.size();
            lane_of_.erase(found);
        }
    }

    [[nodiscard]] std::optional<std::size_t> lane_at(address where) const {
        const auto around = model_.reservation_at(where);
        if (around == model_.reservations().end())
            return std::nullopt;
        return lane_of_.at(around->first);
    }

    [[nodiscard]] std::size_t pages(bytes size) const { return size.count() / page_; }

    [[nodiscard]] json lanes() const {
        json all = json::array();
        std::vector<std::size_t> free_from; // by line of those without a name: the step when it is free
        for (const lane& each : lanes_) {
            // A long reservation is drawn to a little behind what was ever mapped.
            const std::size_t drawn = each.pages <= 64 ? each.pages : std::min(each.pages, each.used + 4);
            json words{{"pages", each.pages}, {"drawn", drawn}};
            if (each.name) {
                words["name"] = *each.name;
            } else {
                const auto until = each.to == 0 ? steps_.size() : each.to;
                auto line = std::find_if(free_from.begin(), free_from.end(),
                                         [&](std::size_t free) { return free <= each.from; });
                if (line == free_from.end())
                    line = free_from.insert(line, 0);
                *line = until;
                words["spare"] = line - free_from.begin();
            }
            all.push_back(std::move(words));
        }
        return all;
    }

    /// Every page of the end, for whoever wants to check that the steps lead there: [page, pages, chunk,
    /// access] by lane.
    [[nodiscard]] json end() const {
        json mapped = json::object();
        for (const auto& [where, id] : lane_of_)
            mapped[std::to_string(id)] = json::array();
        for (const auto& [where, each] : model_.mappings()) {
            const auto around = model_.reservation_at(where);
            mapped[std::to_string(lane_of_.at(around->first))].push_back(
                {pages(where - around->first), pages(each.size), each.chunk, word_for(each.allowed)});
        }
        json chunks = json::array();
        for (const auto& [number, state] : model_.chunks())
            chunks.push_back(number);
        return {{"lanes", std::move(mapped)}, {"chunks", std::move(chunks)}};
    }

    const std::size_t page_;
    memory_model model_;
    std::vector<lane> lanes_;
    std::map<address, std::size_t> lane_of_;
    std::size_t released_ = 0;
    json steps_ = json::array();
    std::vector<std::size_t> reserved_, mapped_, physical_, shared_;
    json result_;
};

} // namespace

nlohmann::ordered_json make_timeline(const std::string& title, std::span<const entry> entries) {
    return drawing{title, entries}.take();
}

} // namespace memory_map
