// SPDX-License-Identifier: Apache-2.0
//
// Scores and choices by double loops over positions, as the papers write them.
#pragma once

#include "world.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <set>
#include <vector>

namespace vtensor::testing {

/// The scores of one head by position: those before the recent window.
using position_scores = std::map<position_type, double>;

/// A head's planes by position: [member][query][index], and the positions.
struct head_planes {
    std::vector<position_type> positions;
    std::vector<std::vector<std::vector<double>>> values;
};

/// The live positions before the last `window`, and for each member and each of the last `queries` queries
/// what `of` says of them.
inline head_planes planes_of(const world& shown, std::size_t layer, std::size_t head, quantity of,
                             std::size_t group, std::size_t queries, std::size_t window) {
    head_planes planes;
    for (const position_type position : shown.live(layer, head))
        if (position + window < shown.options().tokens)
            planes.positions.push_back(position);
    const std::size_t first = of == quantity::probability ? shown.options().queries - queries : 0;
    planes.values.resize(group);
    for (std::size_t member = 0; member < group; ++member)
        for (std::size_t query = first; query < first + queries; ++query) {
            std::vector<double> row;
            for (const position_type position : planes.positions)
                row.push_back(static_cast<double>(shown.value(of, layer, head, member, query, position)));
            planes.values[member].push_back(row);
        }
    return planes;
}

/// Averages of `width` neighbours, zeros beyond the ends; scaled to the old sum where `keep_sum`.
inline std::vector<double> pooled(const std::vector<double>& row, std::size_t width, bool keep_sum) {
    const auto n = static_cast<std::ptrdiff_t>(row.size());
    const auto half = static_cast<std::ptrdiff_t>(width / 2);
    std::vector<double> all;
    double before = 0, after = 0;
    for (std::ptrdiff_t j = 0; j < n; ++j) {
        double sum = 0;
        for (std::ptrdiff_t k = std::max<std::ptrdiff_t>(0, j - half); k <= std::min(n - 1, j + half); ++k)
            sum += row[static_cast<std::size_t>(k)];
        all.push_back(sum / static_cast<double>(width));
        before += row[static_cast<std::size_t>(j)];
        after += all.back();
    }
    if (keep_sum && after != 0)
        for (double& value : all)
            value *= before / after;
    return all;
}

inline void pool_all(head_planes& planes, std::size_t width, bool keep_sum) {
    for (auto& member : planes.values)
        for (auto& row : member)
            row = pooled(row, width, keep_sum);
}

enum class how { mean, max };

/// Over all planes.
inline position_scores aggregated(const head_planes& planes, how way) {
    position_scores scores;
    for (std::size_t index = 0; index < planes.positions.size(); ++index) {
        double sum = 0, most = -1e300, count = 0;
        for (const auto& member : planes.values)
            for (const auto& row : member) {
                sum += row[index];
                most = std::max(most, row[index]);
                ++count;
            }
        scores[planes.positions[index]] = way == how::mean ? sum / count : most;
    }
    return scores;
}

inline double mean_of(const position_scores& scores) {
    double sum = 0;
    for (const auto& [position, score] : scores)
        sum += score;
    return sum / static_cast<double>(scores.size());
}

/// Never below the mean.
inline void clamp_at_mean(position_scores& scores) {
    const double mean = mean_of(scores);
    for (auto& [position, score] : scores)
        score = std::max(score, mean);
}

/// The positions of the `count` highest, of equal ones the newer.
inline std::set<position_type> best(const position_scores& scores, std::size_t count) {
    std::vector<std::pair<double, position_type>> order;
    for (const auto& [position, score] : scores)
        order.emplace_back(score, position);
    std::sort(order.rbegin(), order.rend());
    std::set<position_type> all;
    for (std::size_t rank = 0; rank < std::min(count, order.size()); ++rank)
        all.insert(order[rank].second);
    return all;
}

/// The same over several heads: [head] → positions.
inline std::vector<std::set<position_type>> best_of_all(const std::vector<position_scores>& heads,
                                                        std::size_t count) {
    std::vector<std::pair<double, std::pair<position_type, std::size_t>>> order;
    for (std::size_t head = 0; head < heads.size(); ++head)
        for (const auto& [position, score] : heads[head])
            order.push_back({score, {position, head}});
    std::sort(order.rbegin(), order.rend());
    std::vector<std::set<position_type>> all(heads.size());
    for (std::size_t rank = 0; rank < std::min(count, order.size()); ++rank)
        all[order[rank].second.second].insert(order[rank].second.first);
    return all;
}

} // namespace vtensor::testing
