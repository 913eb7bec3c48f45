// SPDX-License-Identifier: Apache-2.0
//
// Draws memory over time as SVG: a panel a workload, a line a memory manager, and dashed the bytes of the
// tokens that its sequences had.
#pragma once

#include "kv_shape.hpp"
#include "run_record.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace vtensor::bench {

/// The same quantity of every step, in MiB, thinned out to what can be seen.
struct chart_line {
    std::vector<std::pair<double, double>> points; ///< seconds, MiB
};

struct chart_manager {
    std::string name; ///< one colour for a name
    chart_line held;
    chart_line tokens;
};

struct chart_panel {
    std::string title;
    double limit = 0; ///< MiB
    std::vector<chart_manager> managers;
};

/// The largest value of each of `bins` spans of time, where the span has a step.
[[nodiscard]] inline chart_manager make_chart_manager(std::string name, const run_record& record,
                                                      const kv_shape& shape, std::size_t bins = 300) {
    chart_manager made{.name = std::move(name), .held = {}, .tokens = {}};
    if (record.steps.empty())
        return made;
    const double whole = record.steps.back().start + record.steps.back().computing;
    std::size_t last = bins;
    for (const step_record& step : record.steps) {
        const auto bin =
            std::min(bins - 1, static_cast<std::size_t>(step.start / whole * static_cast<double>(bins)));
        const auto add = [&](chart_line& line, bytes memory) {
            const double size = static_cast<double>(memory.count()) / (1 << 20);
            if (bin != last)
                line.points.emplace_back(step.start, size);
            else
                line.points.back().second = std::max(line.points.back().second, size);
        };
        add(made.held, step.memory.held);
        add(made.tokens, shape.token() * step.distinct);
        last = bin;
    }
    return made;
}

/// Panels side by side, two a line.
class memory_chart {
  public:
    void add(chart_panel panel) { panels_.push_back(std::move(panel)); }

    void write(std::ostream& out) const {
        const std::size_t lines = (panels_.size() + 1) / 2;
        const auto places = places_of_names();
        const double first_top = places.back().second + 40; // the last place is the end
        const double height = first_top + static_cast<double>(lines) * (tall + gap_down);
        out << R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 )" << whole_width << ' '
            << number(height) << R"(" font-family="system-ui, sans-serif" font-size="13">)" << '\n'
            << R"(<rect width=")" << whole_width << R"(" height=")" << number(height)
            << R"(" fill="#ffffff"/>)" << '\n'
            << R"(<text x="20" y="24" font-weight="600" fill="#1f2933">Memory that live sequences hold (dashed: )"
            << R"(the bytes of their tokens), MiB over simulated seconds</text>)" << '\n';
        write_names(out, places);
        for (std::size_t index = 0; index < panels_.size(); ++index)
            write_panel(out, panels_[index], first_left + static_cast<double>(index % 2) * (wide + gap),
                        first_top + static_cast<double>(index / 2) * (tall + gap_down));
        out << "</svg>\n";
    }

  private:
    static constexpr int whole_width = 960;
    static constexpr double first_left = 60, wide = 400, tall = 200, gap = 80, gap_down = 76;
    static constexpr std::array colours{"#7b8794", "#d0602f", "#1b7f6b", "#3d7ab8",
                                        "#c9a227", "#b08bbf", "#8c6d1f"};

    [[nodiscard]] std::vector<std::string> names() const {
        std::vector<std::string> found;
        for (const chart_panel& panel : panels_)
            for (const chart_manager& one : panel.managers)
                if (std::ranges::find(found, one.name) == found.end())
                    found.push_back(one.name);
        return found;
    }
    [[nodiscard]] const char* colour_of(const std::string& name) const {
        const auto known = names();
        const auto place = static_cast<std::size_t>(std::ranges::find(known, name) - known.begin());
        return colours[place % colours.size()];
    }

    /// Where the names stand, line after line, and the end of the last one.
    [[nodiscard]] std::vector<std::pair<double, double>> places_of_names() const {
        std::vector<std::pair<double, double>> places;
        double left = 20;
        double top = 44;
        for (const std::string& name : names()) {
            const double space = 60 + 7.5 * static_cast<double>(name.size());
            if (left > 20 && left + space > whole_width) {
                left = 20;
                top += 20;
            }
            places.emplace_back(left, top);
            left += space;
        }
        places.emplace_back(left, top);
        return places;
    }
    void write_names(std::ostream& out, const std::vector<std::pair<double, double>>& places) const {
        const auto known = names();
        for (std::size_t index = 0; index < known.size(); ++index) {
            const auto [left, top] = places[index];
            out << "<line x1=\"" << number(left) << "\" x2=\"" << number(left + 26) << "\" y1=\""
                << number(top) << "\" y2=\"" << number(top) << "\" stroke=\"" << colour_of(known[index])
                << "\" stroke-width=\"2\"/>\n<text x=\"" << number(left + 34) << "\" y=\"" << number(top + 4)
                << "\" fill=\"#1f2933\">" << escaped(known[index]) << "</text>\n";
        }
    }

    void write_panel(std::ostream& out, const chart_panel& panel, double left, double top) const {
        double seconds = 1e-9;
        double most = panel.limit;
        for (const chart_manager& one : panel.managers)
            for (const auto& [when, size] : one.held.points) {
                seconds = std::max(seconds, when);
                most = std::max(most, size);
            }
        const auto x = [&](double value) { return left + value / seconds * wide; };
        const auto y = [&](double value) { return top + (1 - value / most) * tall; };
        out << "<text x=\"" << number(left) << "\" y=\"" << number(top - 8)
            << "\" font-weight=\"600\" fill=\"#1f2933\">" << escaped(panel.title) << "</text>\n";
        for (int part = 0; part <= 4; ++part) {
            const double size = most * part / 4;
            const double when = seconds * part / 4;
            out << "<line x1=\"" << number(left) << "\" x2=\"" << number(left + wide) << "\" y1=\""
                << number(y(size)) << "\" y2=\"" << number(y(size)) << "\" stroke=\"#d9e0e6\"/>\n"
                << "<text x=\"" << number(left - 8) << "\" y=\"" << number(y(size) + 4)
                << R"(" text-anchor="end" font-size="11" fill="#52606d">)" << std::lround(size) << "</text>\n"
                << "<text x=\"" << number(x(when)) << "\" y=\"" << number(top + tall + 18)
                << R"(" text-anchor="middle" font-size="11" fill="#52606d">)" << std::lround(when)
                << "</text>\n";
        }
        out << "<line x1=\"" << number(left) << "\" x2=\"" << number(left + wide) << "\" y1=\""
            << number(y(panel.limit)) << "\" y2=\"" << number(y(panel.limit)) << "\" stroke=\"#1f2933\"/>\n";
        const auto draw = [&](const chart_line& line, const std::string& colour, const char* how) {
            out << "<polyline points=\"";
            for (const auto& [when, size] : line.points)
                out << number(x(when)) << ',' << number(y(size)) << ' ';
            out << "\" fill=\"none\" stroke=\"" << colour << "\" " << how << "/>\n";
        };
        for (const chart_manager& one : panel.managers) {
            draw(one.tokens, colour_of(one.name), R"(stroke-width="1" stroke-dasharray="4 3")");
            draw(one.held, colour_of(one.name), R"(stroke-width="1.6")");
        }
    }

    static std::string number(double value) {
        std::array<char, 32> text{};
        std::snprintf(text.data(), text.size(), "%.1f", value);
        return text.data();
    }
    static std::string escaped(const std::string& text) {
        std::string out;
        for (const char letter : text) {
            if (letter == '&')
                out += "&amp;";
            else if (letter == '<')
                out += "&lt;";
            else
                out += letter;
        }
        return out;
    }

    std::vector<chart_panel> panels_;
};

} // namespace vtensor::bench
