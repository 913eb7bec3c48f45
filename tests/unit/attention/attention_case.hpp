// SPDX-License-Identifier: Apache-2.0
//
// Random sequences for attention, laid out in memory in awkward ways, and the truth about them by a loop in
// double precision over the definition. Every element that attention must not read holds NaN, every one that
// it must not write a sentinel.
#pragma once

#include "random_shape.hpp"

#include <vtensor/attention/problem.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <vector>

namespace vtensor::testing {

/// A sequence with its memory and its truth.
template <class T, class Query = float>
class random_sequence {
  public:
    static constexpr float sentinel = 12345.0f;

    random_sequence(const sequence_shape& shape, random_engine& random) : shape_{shape} {
        const std::size_t query_rows = shape.queries * shape.query_heads();
        queries_.assign(query_rows * query_pitch() + 1, from_float<Query>(not_a_number));
        for (std::size_t row = 0; row < query_rows; ++row)
            fill_row(queries_.data() + row * query_pitch(), shape.key_width, random);
        output_.assign(query_rows * output_pitch() + 1, sentinel);
        for (const std::size_t rows : shape.rows)
            add_head(rows, random);
        if (shape.scored)
            scores_.assign(shape.query_heads() * *shape.scored * score_pitch() + 1, sentinel);
        describe();
    }
    random_sequence(const random_sequence&) = delete;
    random_sequence& operator=(const random_sequence&) = delete;

    [[nodiscard]] attention::sequence<T, Query> described() const { return described_; }
    [[nodiscard]] const sequence_shape& shape() const { return shape_; }

    /// The largest error of an output as a share of the largest true output.
    [[nodiscard]] double output_error(const attention::options& options) const {
        double worst = 0;
        double largest = 0;
        each_query([&](std::size_t query, std::size_t head) {
            const std::vector<double> weights = probabilities(options, query, head);
            for (std::size_t column = 0; column < shape_.value_width; ++column) {
                double sum = 0;
                for (std::size_t row = 0; row < weights.size(); ++row)
                    if (weights[row] != 0)
                        sum += weights[row] * value(head / shape_.group, row, column);
                const auto got = static_cast<double>(described_.output(query, head, column));
                worst = std::max(worst, error_of(got, sum));
                largest = std::max(largest, std::abs(sum));
            }
        });
        return largest == 0 ? worst : worst / largest;
    }

    /// The largest error of a probability; those of rows beyond the head's must be exactly 0.
    [[nodiscard]] double score_error(const attention::options& options) const {
        double worst = 0;
        each_score([&](std::size_t query, std::size_t head, std::span<const float> got) {
            const std::vector<double> weights = probabilities(options, query, head);
            for (std::size_t row = 0; row < got.size(); ++row) {
                const double expected = row < weights.size() ? weights[row] : 0;
                const double error = error_of(static_cast<double>(got[row]), expected);
                // What is hidden is not almost, but exactly zero.
                worst = std::max(worst, expected == 0 && error != 0 ? 1.0 : error);
            }
        });
        return worst;
    }

    /// How far the sum of a row of scores is from 1, or from 0 where the query sees nothing.
    [[nodiscard]] double score_sum_error(const attention::options& options) const {
        double worst = 0;
        each_score([&](std::size_t query, std::size_t head, std::span<const float> got) {
            const std::vector<double> weights = probabilities(options, query, head);
            const bool blind = std::ranges::all_of(weights, [](double weight) { return weight == 0; });
            const double sum = std::accumulate(got.begin(), got.end(), 0.0);
            worst = std::max(worst, error_of(sum, blind ? 0.0 : 1.0));
        });
        return worst;
    }

    /// True where everything outside the rows of output and scores still holds its sentinel.
    [[nodiscard]] bool wrote_only_rows() const {
        return gaps_intact(output_, output_pitch(), shape_.value_width) &&
               (!shape_.scored || gaps_intact(scores_, score_pitch(), score_columns()));
    }

    /// True where nothing at all was written.
    [[nodiscard]] bool wrote_nothing() const {
        const auto intact = [](float element) { return element == sentinel; };
        return std::ranges::all_of(output_, intact) && std::ranges::all_of(scores_, intact);
    }

    /// Every float that attention may write, to compare runs bit by bit.
    [[nodiscard]] std::vector<float> written() const {
        std::vector<float> all = output_;
        all.insert(all.end(), scores_.begin(), scores_.end());
        return all;
    }

    void forget() {
        std::ranges::fill(output_, sentinel);
        std::ranges::fill(scores_, sentinel);
    }

  private:
    static constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

    struct head_memory {
        std::vector<T> keys;
        std::vector<T> values;
        std::vector<attention::position_type> positions;
    };

    static double error_of(double got, double expected) {
        return std::isfinite(got) ? std::abs(got - expected) : std::numeric_limits<double>::infinity();
    }

    template <class Element>
    static void fill_row(Element* row, std::size_t width, random_engine& random) {
        std::normal_distribution<float> normal;
        std::generate_n(row, width, [&] { return from_float<Element>(normal(random)); });
    }

    static bool gaps_intact(const std::vector<float>& memory, std::size_t pitch, std::size_t width) {
        for (std::size_t index = 0; index < memory.size(); ++index)
            if ((index % pitch >= width || index + 1 == memory.size()) && memory[index] != sentinel)
                return false;
        return true;
    }

    [[nodiscard]] std::size_t query_pitch() const { return shape_.key_width + shape_.padding; }
    [[nodiscard]] std::size_t output_pitch() const { return shape_.value_width + shape_.padding; }
    [[nodiscard]] std::size_t score_columns() const {
        return std::ranges::max(shape_.rows) + shape_.spare_score_columns;
    }
    [[nodiscard]] std::size_t score_pitch() const { return score_columns() + shape_.padding + 1; }

    void add_head(std::size_t rows, random_engine& random) {
        head_memory head;
        const auto fill = [&](std::vector<T>& memory, std::size_t width) {
            const std::size_t pitch = width + shape_.padding;
            memory.assign(rows * pitch + 1, from_float<T>(not_a_number));
            for (std::size_t row = 0; row < rows; ++row)
                if (!is_dead(head, row))
                    fill_row(memory.data() + row * pitch, width, random);
        };
        if (shape_.gaps || shape_.dead_in_ten != 0)
            head.positions = random_positions(rows, random);
        fill(head.keys, shape_.key_width);
        fill(head.values, shape_.value_width);
        memory_.push_back(std::move(head));
    }

    /// One more than there are rows, so that the array is never null.
    [[nodiscard]] std::vector<attention::position_type> random_positions(std::size_t rows,
                                                                         random_engine& random) const {
        std::vector<attention::position_type> all((shape_.gaps ? rows * 3 : rows) + 1);
        std::iota(all.begin(), all.end(), attention::position_type{0});
        if (shape_.gaps)
            std::ranges::shuffle(all, random);
        all.resize(rows + 1);
        for (std::size_t row = 0; row < rows; ++row)
            if (random_size(random, 0, 9) < shape_.dead_in_ten)
                all[row] = no_position;
        return all;
    }

    [[nodiscard]] static bool is_dead(const head_memory& head, std::size_t row) {
        return !head.positions.empty() && head.positions[row] == no_position;
    }

    void describe() {
        for (std::size_t head = 0; head < shape_.rows.size(); ++head) {
            const head_memory& memory = memory_[head];
            heads_.push_back(
                {.keys = memory.keys.data(),
                 .values = memory.values.data(),
                 .key_stride = static_cast<std::ptrdiff_t>(shape_.key_width + shape_.padding),
                 .value_stride = static_cast<std::ptrdiff_t>(shape_.value_width + shape_.padding),
                 .rows = shape_.rows[head],
                 .positions = memory.positions.empty() ? nullptr : memory.positions.data()});
        }
        described_.queries =
            rows_of(static_cast<const Query*>(queries_.data()), query_pitch(), shape_.key_width);
        described_.heads = heads_;
        described_.output = rows_of(output_.data(), output_pitch(), shape_.value_width);
        described_.first_position = shape_.first_position;
        if (shape_.scored) {
            auto& scores = described_.scores;
            scores = make_view(scores_.data(), shape_.query_heads(), *shape_.scored, score_columns());
            scores.strides[1] = static_cast<std::ptrdiff_t>(score_pitch());
            scores.strides[0] = scores.strides[1] * static_cast<std::ptrdiff_t>(*shape_.scored);
        }
    }

    template <class Element>
    [[nodiscard]] tensor_view<Element, 3> rows_of(Element* data, std::size_t pitch, std::size_t width) const {
        auto view = make_view(data, shape_.queries, shape_.query_heads(), width);
        const std::size_t inner = shape_.heads_outside ? 0 : 1;
        view.strides[inner] = static_cast<std::ptrdiff_t>(pitch);
        view.strides[1 - inner] = static_cast<std::ptrdiff_t>(pitch * view.extents[inner]);
        return view;
    }

    template <class Visit>
    void each_query(Visit visit) const {
        for (std::size_t query = 0; query < shape_.queries; ++query)
            for (std::size_t head = 0; head < shape_.query_heads(); ++head)
                visit(query, head);
    }

    template <class Visit>
    void each_score(Visit visit) const {
        for (std::size_t head = 0; head < shape_.query_heads(); ++head)
            for (std::size_t row = 0; row < shape_.scored.value_or(0); ++row)
                visit(shape_.queries - *shape_.scored + row, head,
                      std::span<const float>{scores_.data() + (head * *shape_.scored + row) * score_pitch(),
                                             score_columns()});
    }

    [[nodiscard]] double value(std::size_t kv_head, std::size_t row, std::size_t column) const {
        return static_cast<double>(
            to_float(memory_[kv_head].values[row * (shape_.value_width + shape_.padding) + column]));
    }

    [[nodiscard]] double product(std::size_t query, std::size_t head, std::size_t row) const {
        const auto& keys = memory_[head / shape_.group].keys;
        double sum = 0;
        for (std::size_t column = 0; column < shape_.key_width; ++column)
            sum += static_cast<double>(to_float(described_.queries(query, head, column))) *
                   static_cast<double>(to_float(keys[row * query_pitch() + column]));
        return sum;
    }

    [[nodiscard]] std::int64_t key_position(std::size_t kv_head, std::size_t row) const {
        const auto& positions = memory_[kv_head].positions;
        return positions.empty() ? static_cast<std::int64_t>(row) : static_cast<std::int64_t>(positions[row]);
    }

    [[nodiscard]] bool visible(const attention::options& options, std::size_t query, std::size_t kv_head,
                               std::size_t row) const {
        if (is_dead(memory_[kv_head], row))
            return false;
        const auto longest = static_cast<std::int64_t>(std::ranges::max(shape_.rows));
        const std::int64_t first = shape_.first_position
                                       ? static_cast<std::int64_t>(*shape_.first_position)
                                       : longest - static_cast<std::int64_t>(shape_.queries);
        const std::int64_t distance = first + static_cast<std::int64_t>(query) - key_position(kv_head, row);
        if (options.causal && distance < 0)
            return false;
        const bool is_sink = key_position(kv_head, row) < static_cast<std::int64_t>(options.sinks);
        return is_sink || distance < 0 || static_cast<std::size_t>(distance) < options.window;
    }

    /// The softmax over what the query sees; 0 elsewhere.
    [[nodiscard]] std::vector<double> probabilities(const attention::options& options, std::size_t query,
                                                    std::size_t head) const {
        const std::size_t kv_head = head / shape_.group;
        const double scale = options.scale ? static_cast<double>(*options.scale)
                                           : 1 / std::sqrt(static_cast<double>(shape_.key_width));
        std::vector<double> weights(shape_.rows[kv_head]);
        double largest = -std::numeric_limits<double>::infinity();
        for (std::size_t row = 0; row < weights.size(); ++row)
            if (visible(options, query, kv_head, row))
                largest = std::max(largest, weights[row] = scale * product(query, head, row));
        double total = 0;
        for (std::size_t row = 0; row < weights.size(); ++row)
            total += weights[row] =
                visible(options, query, kv_head, row) ? std::exp(weights[row] - largest) : 0.0;
        for (double& weight : weights)
            weight = total == 0 ? 0 : weight / total;
        return weights;
    }

    sequence_shape shape_;
    std::vector<Query> queries_;
    std::vector<float> output_;
    std::vector<float> scores_;
    std::vector<head_memory> memory_;
    std::vector<attention::kv_head<T>> heads_;
    attention::sequence<T, Query> described_{};
};

} // namespace vtensor::testing
