// SPDX-License-Identifier: Apache-2.0
// What lives across steps: it sums and counts as a double loop does, and follows its rows.
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/policy/eviction/accumulated_attention.hpp>
#include <vtensor/policy/eviction/recurrence_tracker.hpp>

#include <support/catch.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

namespace vtensor::testing {

namespace {

namespace ev = eviction;

/// Two KV heads of two query heads each, whose rows are known by position and are evicted now and then.
struct scene {
    std::mt19937 engine{5};
    std::vector<std::vector<position_type>> rows{{}, {}}; ///< by head: the position of every slot
    std::map<std::pair<std::size_t, position_type>, std::vector<float>> shown; ///< everything ever shown
    std::vector<float> numbers;
    position_type next = 0;

    [[nodiscard]] std::vector<ev::head_rows> heads() const {
        return {{.rows = rows[0].size(), .positions = rows[0].data()},
                {.rows = rows[1].size(), .positions = rows[1].data()}};
    }
    /// One more token: probabilities [4, 1, rows].
    tensor_view<const float, 3> step() {
        for (auto& head : rows)
            head.push_back(next);
        ++next;
        const std::size_t longest = std::max(rows[0].size(), rows[1].size());
        numbers.assign(4 * longest, 0);
        for (std::size_t query_head = 0; query_head < 4; ++query_head)
            for (std::size_t slot = 0; slot < rows[query_head / 2].size(); ++slot) {
                const float value = static_cast<float>(engine() % 1000) / 1000;
                numbers[query_head * longest + slot] = value;
                shown[{query_head, rows[query_head / 2][slot]}].push_back(value);
            }
        return make_view(static_cast<const float*>(numbers.data()), 4, 1, longest);
    }
    /// Some of a head's slots, ascending.
    std::vector<slot_type> some(std::size_t head) {
        std::vector<slot_type> stay;
        for (slot_type slot = 0; slot < rows[head].size(); ++slot)
            if (engine() % 3 != 0)
                stay.push_back(slot);
        return stay;
    }
};

} // namespace

TEST_CASE("accumulated attention sums by position whatever becomes of the slots", "[eviction]") {
    scene now;
    ev::accumulated_attention sums{4, 2};
    for (int step = 1; step <= 200; ++step) {
        const auto probabilities = now.step();
        REQUIRE(sums.add(now.heads(), probabilities).ok());
        for (std::size_t query_head = 0; query_head < 4; ++query_head)
            for (std::size_t slot = 0; slot < now.rows[query_head / 2].size(); ++slot) {
                double expected = 0;
                for (const float value : now.shown[{query_head, now.rows[query_head / 2][slot]}])
                    expected += static_cast<double>(value);
                REQUIRE(static_cast<double>(sums.view()(query_head, slot)) ==
                        Catch::Approx(expected).epsilon(1e-5));
            }
        if (step % 20 == 0)
            for (std::size_t head = 0; head < 2; ++head) {
                const auto stay = now.some(head);
                std::vector<position_type> kept;
                for (const slot_type slot : stay)
                    kept.push_back(now.rows[head][slot]);
                sums.retain(head, stay);
                now.rows[head] = kept;
            }
    }
}

TEST_CASE("recurrences are counted by position whatever becomes of the slots", "[eviction]") {
    constexpr float threshold = 0.9f;
    scene now;
    ev::recurrence_tracker tracker{2, threshold};
    struct counters {
        std::uint32_t last, longest;
    };
    std::vector<std::map<position_type, counters>> expected(2);
    for (std::uint32_t step = 1; step <= 200; ++step) {
        const auto probabilities = now.step();
        REQUIRE(tracker.observe(now.heads(), probabilities).ok());
        const auto importance = tracker.importance();
        REQUIRE(importance.ok());
        for (std::size_t head = 0; head < 2; ++head)
            for (std::size_t slot = 0; slot < now.rows[head].size(); ++slot) {
                const position_type position = now.rows[head][slot];
                auto& row = expected[head].try_emplace(position, counters{step - 1, 0}).first->second;
                if (std::max(now.shown[{head * 2, position}].back(),
                             now.shown[{head * 2 + 1, position}].back()) >= threshold) {
                    row.longest = std::max(row.longest, step - row.last);
                    row.last = step;
                }
                REQUIRE(tracker.counters(head)[slot].last_hit == row.last);
                REQUIRE(tracker.counters(head)[slot].longest_interval == row.longest);
                const double quiet = step - row.last;
                double rating = 2 / (1 + std::exp(1 + quiet / (row.longest + 1e-5)));
                if (row.longest > 0)
                    rating += 2 / (1 + std::exp(row.longest - 1.0));
                REQUIRE(static_cast<double>((*importance)(head, slot)) ==
                        Catch::Approx(rating).epsilon(1e-5).margin(1e-30));
            }
        if (step % 20 == 0) { // one plan for both heads, which have the same number of rows
            const std::size_t count = now.rows[0].size();
            defrag::plan plan;
            plan.rows.push_back({.from = static_cast<slot_type>(count - 4), .to = 2, .count = 4});
            plan.rows_after = count - 5;
            tracker.apply(plan);
            for (auto& rows : now.rows) {
                std::copy(rows.end() - 4, rows.end(), rows.begin() + 2);
                rows.resize(count - 5);
            }
        }
    }
    REQUIRE(tracker.steps() == 200);
}

TEST_CASE("views that do not fit the heads are refused", "[eviction]") {
    const std::vector<float> numbers(400, 0.5f);
    const std::vector<ev::head_rows> heads{{.rows = 10}, {.rows = 9}};
    const auto view = [&](std::size_t members, std::size_t rows) {
        return make_view(numbers.data(), members, 1, rows);
    };
    ev::accumulated_attention sums{4, 2};
    REQUIRE(sums.add(heads, view(4, 9)).code() == errc::invalid_argument);
    REQUIRE(sums.add(heads, view(2, 10)).code() == errc::invalid_argument);
    REQUIRE(sums.add(std::span{heads}.first(1), view(4, 10)).code() == errc::invalid_argument);
    REQUIRE(sums.add(heads, view(4, 10)).ok());
    ev::recurrence_tracker tracker{2, 0.5f};
    REQUIRE(tracker.observe(heads, view(4, 9)).code() == errc::invalid_argument);
    REQUIRE(tracker.observe(heads, view(3, 10)).code() == errc::invalid_argument);
    REQUIRE(tracker.observe(std::span{heads}.first(1), view(4, 10)).code() == errc::invalid_argument);
    REQUIRE(tracker.steps() == 0);
    REQUIRE(tracker.observe(heads, view(4, 10)).ok());
}

} // namespace vtensor::testing
