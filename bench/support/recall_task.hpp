// SPDX-License-Identifier: Apache-2.0
//
// The task of the recall models (bench/recall): a body that hides pairs and markers in filler, a window of
// questions that eviction may learn from, and the questions that count. bench/recall/train.py has the same
// vocabulary.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <random>
#include <vector>

namespace vtensor::bench {

namespace recall {
inline constexpr int filler = 0, first_key = 1, first_value = 49, first_marker = 97, aggregate = 101;
inline constexpr std::size_t names = 48, classes = 4, vocabulary = 102;
inline constexpr std::size_t body = 192, pairs = 16, markers = 24;
inline constexpr std::size_t window = 32, asked_keys = 8, asked_aggregates = 16;
} // namespace recall

/// A question after the eviction.
struct recall_question {
    int token = 0;
    int answer = 0;
    bool asked_before = false; ///< in the window; always so for the aggregate
};

/// One sequence of the task.
struct recall_sequence {
    std::vector<int> prompt; ///< body and window
    std::vector<recall_question> questions;
};

/// Sequences from a seed, the same on every machine.
class recall_task {
  public:
    explicit recall_task(std::uint32_t seed) : random_{seed} {}

    [[nodiscard]] recall_sequence next() {
        using namespace recall;
        std::vector<int> keys = numbers(first_key, names);
        shuffle(keys);
        keys.resize(pairs);
        std::vector<int> values;
        for (std::size_t pair = 0; pair < pairs; ++pair)
            values.push_back(first_value + static_cast<int>(below(names)));
        int majority = 0;
        const std::vector<int> shown = draw_markers(majority);

        recall_sequence made;
        enum : int { a_pair, a_marker, nothing };
        std::vector<int> places(pairs, a_pair);
        places.insert(places.end(), markers, a_marker);
        places.insert(places.end(), body - 2 * pairs - markers, nothing);
        shuffle(places);
        std::size_t pair = 0;
        std::size_t marker = 0;
        for (const int place : places) {
            if (place == a_pair) {
                made.prompt.insert(made.prompt.end(), {keys[pair], values[pair]});
                ++pair;
            } else {
                made.prompt.push_back(place == a_marker ? shown[marker++] : filler);
            }
        }

        std::vector<std::size_t> order(pairs);
        for (std::size_t index = 0; index < pairs; ++index)
            order[index] = index;
        shuffle(order);
        std::vector<int> observed(window - asked_keys - asked_aggregates, filler);
        observed.insert(observed.end(), asked_aggregates, aggregate);
        for (std::size_t index = 0; index < asked_keys; ++index)
            observed.push_back(keys[order[index]]);
        shuffle(observed);
        made.prompt.insert(made.prompt.end(), observed.begin(), observed.end());

        for (std::size_t index = 0; index < pairs; ++index)
            made.questions.push_back({keys[order[index]], values[order[index]], index < asked_keys});
        made.questions.push_back({aggregate, majority, true});
        shuffle(made.questions);
        return made;
    }

  private:
    static std::vector<int> numbers(int first, std::size_t count) {
        std::vector<int> all(count);
        for (std::size_t index = 0; index < count; ++index)
            all[index] = first + static_cast<int>(index);
        return all;
    }

    /// Markers of which one class has more than any other; that class's token goes to `majority`.
    std::vector<int> draw_markers(int& majority) {
        using namespace recall;
        while (true) {
            const std::size_t main = below(classes);
            std::array<std::size_t, classes> counts{};
            std::vector<int> drawn;
            for (std::size_t index = 0; index < markers; ++index) {
                const std::size_t one = below(10) < 4 ? main : below(classes);
                ++counts[one];
                drawn.push_back(first_marker + static_cast<int>(one));
            }
            const auto most = std::max_element(counts.begin(), counts.end());
            if (std::count(counts.begin(), counts.end(), *most) == 1) {
                majority = first_marker + static_cast<int>(most - counts.begin());
                return drawn;
            }
        }
    }

    /// Below `count`; its bias is beyond notice.
    std::size_t below(std::size_t count) { return static_cast<std::size_t>(random_() % count); }

    template <class V>
    void shuffle(std::vector<V>& all) {
        for (std::size_t rest = all.size(); rest > 1; --rest)
            std::swap(all[rest - 1], all[below(rest)]);
    }

    std::mt19937 random_;
};

} // namespace vtensor::bench
