// SPDX-License-Identifier: Apache-2.0
//
// Random evidence whose every number belongs to a position and to the identity of a head, so that the same
// world can be shown with its rows in another order, with dead rows among them, or with its heads exchanged.
#pragma once

#include <vtensor/policy/eviction/evidence.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <vector>

namespace vtensor::testing {

struct world_options {
    std::uint64_t seed = 1;
    std::size_t layers = 1;
    std::size_t kv_heads = 2;
    std::size_t group = 2;
    std::size_t queries = 8;
    std::size_t tokens = 100;
    double missing = 0;    ///< the fraction of the positions that a head does not hold any more
    bool ragged = false;   ///< heads lack different positions
    double dead = 0;       ///< dead rows a live one
    bool shuffled = false; ///< rows in no order
    bool identity = false; ///< no positions are given: the rows are the positions
};

enum class quantity : std::uint64_t { probability, accumulated, norm, similarity, output, recurrence, held };

class world {
  public:
    explicit world(const world_options& options) : options_{options}, ids_(options.kv_heads) {
        std::iota(ids_.begin(), ids_.end(), std::size_t{0});
        lay_out();
    }
    world(const world&) = delete;
    world& operator=(const world&) = delete;

    /// Head h becomes the one that was `order[h]`.
    void permute_heads(const std::vector<std::size_t>& order) {
        ids_ = order;
        lay_out();
    }

    [[nodiscard]] const world_options& options() const { return options_; }
    [[nodiscard]] const std::vector<eviction::layer_evidence>& evidence() const { return evidence_; }
    [[nodiscard]] eviction::layer_evidence& layer(std::size_t number) { return evidence_[number]; }
    /// By slot; no_position where dead.
    [[nodiscard]] const std::vector<position_type>& positions(std::size_t layer, std::size_t head) const {
        return positions_[layer * options_.kv_heads + head];
    }
    /// The positions that a head holds, ascending.
    [[nodiscard]] std::vector<position_type> live(std::size_t layer, std::size_t head) const {
        std::vector<position_type> all;
        for (position_type position = 0; position < options_.tokens; ++position)
            if (holds(layer, head, position))
                all.push_back(position);
        return all;
    }
    /// What was kept, as positions.
    [[nodiscard]] std::set<position_type> kept(const eviction::kept_rows& rows, std::size_t layer,
                                               std::size_t head) const {
        std::set<position_type> all;
        for (const slot_type slot : rows.of(layer, head))
            all.insert(positions(layer, head).at(slot));
        return all;
    }

    /// The number shown at a position. `member` is the query head in the group.
    [[nodiscard]] float value(quantity of, std::size_t layer, std::size_t head, std::size_t member,
                              std::size_t query, position_type position) const {
        const double uniform = random(of, layer, ids_[head] * 64 + member, query, position);
        switch (of) {
        case quantity::probability:
            return static_cast<float>(std::pow(uniform, 8) * 0.1); // few spikes, as attention has
        case quantity::similarity:
            return static_cast<float>(2 * uniform - 1);
        default:
            return static_cast<float>(0.5 + uniform);
        }
    }

    /// Room that a test may overwrite: [query head, W, row] and the like.
    struct arrays {
        std::vector<float> probabilities, accumulated, norms, similarity, output, recurrence;
    };
    [[nodiscard]] arrays& stored(std::size_t layer) { return arrays_[layer]; }
    [[nodiscard]] std::size_t longest(std::size_t layer) const {
        std::size_t rows = 0;
        for (std::size_t head = 0; head < options_.kv_heads; ++head)
            rows = std::max(rows, positions(layer, head).size());
        return rows;
    }

  private:
    [[nodiscard]] double random(quantity of, std::size_t layer, std::size_t head, std::size_t query,
                                std::size_t position) const {
        std::uint64_t x = options_.seed;
        for (const std::uint64_t part :
             {static_cast<std::uint64_t>(of), std::uint64_t{layer}, std::uint64_t{head}, std::uint64_t{query},
              std::uint64_t{position}}) {
            x = (x ^ (part + 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
            x ^= x >> 29;
            x *= 0x94d049bb133111ebu;
            x ^= x >> 32;
        }
        return static_cast<double>(x >> 11) * 0x1p-53;
    }
    [[nodiscard]] bool holds(std::size_t layer, std::size_t head, position_type position) const {
        const std::size_t whose = options_.ragged ? ids_[head] : 0;
        return random(quantity::held, options_.ragged ? layer : 0, whose, 0, position) >= options_.missing;
    }

    void lay_out() {
        std::mt19937_64 engine{options_.seed + 17};
        positions_.clear();
        heads_.clear();
        arrays_.clear();
        evidence_.clear();
        for (std::size_t layer = 0; layer < options_.layers; ++layer)
            for (std::size_t head = 0; head < options_.kv_heads; ++head) {
                auto rows = live(layer, head);
                const auto dead = static_cast<std::size_t>(options_.dead * static_cast<double>(rows.size()));
                for (std::size_t index = 0; index < dead; ++index)
                    rows.insert(rows.begin() + static_cast<std::ptrdiff_t>(engine() % (rows.size() + 1)),
                                no_position);
                if (options_.shuffled)
                    std::shuffle(rows.begin(), rows.end(), engine);
                positions_.push_back(rows);
            }
        for (const auto& rows : positions_)
            heads_.push_back({.rows = rows.size(), .positions = options_.identity ? nullptr : rows.data()});
        arrays_.resize(options_.layers);
        for (std::size_t layer = 0; layer < options_.layers; ++layer)
            show(layer);
    }

    void show(std::size_t layer) {
        const std::size_t heads = options_.kv_heads;
        const std::size_t members = heads * options_.group;
        const std::size_t rows = longest(layer);
        const auto filled = [&](quantity of, std::size_t group, std::size_t queries) {
            std::vector<float> all(heads * group * queries * rows,
                                   std::numeric_limits<float>::quiet_NaN()); // never read where not live
            for (std::size_t head = 0; head < heads; ++head)
                for (std::size_t member = 0; member < group; ++member)
                    for (std::size_t query = 0; query < queries; ++query)
                        for (std::size_t slot = 0; slot < positions(layer, head).size(); ++slot) {
                            const position_type position = positions(layer, head)[slot];
                            if (position != no_position)
                                all[((head * group + member) * queries + query) * rows + slot] =
                                    value(of, layer, head, member, query, position);
                        }
            return all;
        };
        arrays& mine = arrays_[layer];
        mine = {.probabilities = filled(quantity::probability, options_.group, options_.queries),
                .accumulated = filled(quantity::accumulated, options_.group, 1),
                .norms = filled(quantity::norm, 1, 1),
                .similarity = filled(quantity::similarity, 1, 1),
                .output = filled(quantity::output, 1, 1),
                .recurrence = filled(quantity::recurrence, 1, 1)};
        const auto two = [&](const std::vector<float>& all, std::size_t count) {
            return make_view(all.data(), count, rows);
        };
        evidence_.push_back({.heads = std::span{heads_}.subspan(layer * heads, heads),
                             .probabilities = make_view(static_cast<const float*>(mine.probabilities.data()),
                                                        members, options_.queries, rows),
                             .accumulated = two(mine.accumulated, members),
                             .key_norms = two(mine.norms, heads),
                             .key_similarity = two(mine.similarity, heads),
                             .output_norms = two(mine.output, heads),
                             .recurrence = two(mine.recurrence, heads),
                             .next_position = static_cast<position_type>(options_.tokens)});
    }

    world_options options_;
    std::vector<std::size_t> ids_;
    std::vector<std::vector<position_type>> positions_;
    std::vector<eviction::head_rows> heads_;
    std::vector<arrays> arrays_;
    std::vector<eviction::layer_evidence> evidence_;
};

} // namespace vtensor::testing
