// SPDX-License-Identifier: Apache-2.0
//
// Heads of random rows for the kernels of evidence, ragged, with evicted rows among them, and a view to be
// written. What must not be read holds NaN, what must not be written a sentinel.
#pragma once

#include "attention_case.hpp"

#include <vtensor/attention/problem.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <vector>

namespace vtensor::testing {

template <class T>
class random_heads {
  public:
    /// Every second head has positions, and `dead_in_ten` of ten of its rows are evicted.
    random_heads(const std::vector<std::size_t>& rows, std::size_t width, std::size_t dead_in_ten,
                 random_engine& random)
        : width_{width}, memory_(rows.size()), positions_(rows.size()) {
        std::normal_distribution<float> normal;
        for (std::size_t head = 0; head < rows.size(); ++head) {
            auto& positions = positions_[head];
            positions.resize(rows[head] + 1);
            auto& memory = memory_[head];
            memory.assign((rows[head] + 1) * pitch(), from_float<T>(std::numeric_limits<float>::quiet_NaN()));
            for (std::size_t row = 0; row < rows[head]; ++row) {
                positions[row] = static_cast<position_type>(2 * row);
                if (head % 2 == 1 && random_size(random, 0, 9) < dead_in_ten)
                    positions[row] = no_position;
                else
                    std::generate_n(memory.begin() + static_cast<std::ptrdiff_t>(row * pitch()), width,
                                    [&] { return from_float<T>(normal(random) + 0.1f); });
            }
            heads_.push_back({.keys = memory.data(),
                              .values = memory.data(),
                              .key_stride = static_cast<std::ptrdiff_t>(pitch()),
                              .value_stride = static_cast<std::ptrdiff_t>(pitch()),
                              .rows = rows[head],
                              .positions = head % 2 == 1 ? positions.data() : nullptr});
        }
    }

    [[nodiscard]] const std::vector<attention::kv_head<T>>& described() const { return heads_; }
    [[nodiscard]] bool is_live(std::size_t head, std::size_t row) const {
        return row < heads_[head].rows && (head % 2 == 0 || positions_[head][row] != no_position);
    }
    [[nodiscard]] double at(std::size_t head, std::size_t row, std::size_t column) const {
        return static_cast<double>(to_float(memory_[head][row * pitch() + column]));
    }
    [[nodiscard]] double length(std::size_t head, std::size_t row) const {
        double sum = 0;
        for (std::size_t column = 0; column < width_; ++column)
            sum += at(head, row, column) * at(head, row, column);
        return std::sqrt(sum);
    }
    [[nodiscard]] std::size_t longest() const {
        std::size_t most = 0;
        for (const auto& head : heads_)
            most = std::max(most, head.rows);
        return most;
    }

  private:
    [[nodiscard]] std::size_t pitch() const { return width_ + 3; }

    std::size_t width_;
    std::vector<std::vector<T>> memory_;
    std::vector<std::vector<position_type>> positions_;
    std::vector<attention::kv_head<T>> heads_;
};

/// Floats [head, row] to be written, with gaps between the heads.
class written_rows {
  public:
    static constexpr float sentinel = 12345.0f;

    written_rows(std::size_t heads, std::size_t rows)
        : memory_(heads * (rows + 3) + 1, sentinel), view_{make_view(memory_.data(), heads, rows)} {
        view_.strides[0] = static_cast<std::ptrdiff_t>(rows + 3);
    }
    written_rows(const written_rows&) = delete;
    written_rows& operator=(const written_rows&) = delete;

    [[nodiscard]] tensor_view<float, 2> view() const { return view_; }
    [[nodiscard]] const std::vector<float>& memory() const { return memory_; }
    [[nodiscard]] bool gaps_intact() const {
        const std::size_t pitch = view_.extents[1] + 3;
        for (std::size_t index = 0; index < memory_.size(); ++index)
            if ((index % pitch >= view_.extents[1] || index + 1 == memory_.size()) &&
                memory_[index] != sentinel)
                return false;
        return true;
    }
    [[nodiscard]] bool untouched() const {
        return std::ranges::all_of(memory_, [](float element) { return element == sentinel; });
    }

    /// The largest difference from `truth(head, row)`, as a share of it where that is more than 1.
    [[nodiscard]] double error(const std::function<double(std::size_t, std::size_t)>& truth) const {
        double worst = 0;
        for (std::size_t head = 0; head < view_.extents[0]; ++head)
            for (std::size_t row = 0; row < view_.extents[1]; ++row) {
                const double expected = truth(head, row);
                const auto got = static_cast<double>(view_(head, row));
                const double error = std::abs(got - expected) / std::max(1.0, std::abs(expected));
                if (!(error <= worst)) // also where it is no number
                    worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
                if (expected == 0 && got != 0)
                    worst = std::numeric_limits<double>::infinity();
            }
        return worst;
    }

  private:
    std::vector<float> memory_;
    tensor_view<float, 2> view_;
};

/// W_O of some query heads, in memory in one of three orders.
template <class W>
struct projection {
    enum order { rows_of_hidden, checkpoint, spread };

    projection(std::size_t heads, std::size_t width, std::size_t hidden, order chosen, random_engine& random)
        : memory(heads * width * hidden * (chosen == spread ? 2 : 1)),
          view{make_view(std::as_const(memory).data(), heads, width, hidden)} {
        std::normal_distribution<float> normal;
        std::ranges::generate(memory, [&] { return from_float<W>(normal(random)); });
        if (chosen == checkpoint) {
            view.strides[0] = static_cast<std::ptrdiff_t>(width);
            view.strides[1] = 1;
            view.strides[2] = static_cast<std::ptrdiff_t>(heads * width);
        } else if (chosen == spread) {
            for (std::ptrdiff_t& stride : view.strides)
                stride *= 2;
        }
    }

    std::vector<W> memory;
    tensor_view<const W, 3> view;
};

} // namespace vtensor::testing
