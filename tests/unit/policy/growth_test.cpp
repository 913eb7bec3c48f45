// SPDX-License-Identifier: Apache-2.0
//
// Growth policies against answers worked out by hand, and the properties that follow from them when a tensor
// grows page by page or swings around a boundary.
#include "support/catch.hpp"

#include <vtensor/policy/growth.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>

using namespace vtensor;

namespace {

struct expected_target {
    std::size_t mapped;
    std::size_t needed;
    std::size_t target;
};

template <class Policy, std::size_t Rows>
void check_table(const Policy& policy, const expected_target (&table)[Rows]) {
    for (const expected_target& row : table) {
        CAPTURE(row.mapped, row.needed);
        const growth_state state{page_count{row.mapped}, page_count{row.needed}, 1000_pages};
        CHECK(policy.target(state).count() == row.target);
    }
}

/// A range under a policy, reduced to its page count: what the tensor does with the answers.
template <class Policy>
class page_counter {
  public:
    explicit page_counter(std::size_t limit) : limit_{limit} {}

    /// True where pages had to be mapped.
    bool grow(std::size_t needed) {
        if (needed <= mapped_)
            return false;
        mapped_ = clamped(needed);
        return true;
    }
    /// True where pages were unmapped.
    bool shrink(std::size_t needed) {
        const std::size_t kept = std::min(mapped_, clamped(needed));
        const bool unmapped = kept < mapped_;
        mapped_ = kept;
        return unmapped;
    }
    [[nodiscard]] std::size_t mapped() const { return mapped_; }

  private:
    [[nodiscard]] std::size_t clamped(std::size_t needed) const {
        const growth_state state{page_count{mapped_}, page_count{needed}, page_count{limit_}};
        return std::max(needed, std::min(Policy{}.target(state).count(), limit_));
    }

    std::size_t limit_;
    std::size_t mapped_ = 0;
};

template <class Policy>
std::size_t growth_calls(std::size_t pages) {
    page_counter<Policy> range{pages};
    std::size_t calls = 0;
    for (std::size_t needed = 1; needed <= pages; ++needed) {
        calls += range.grow(needed) ? 1u : 0u;
        REQUIRE(range.mapped() >= needed);
        REQUIRE(range.mapped() <= pages);
    }
    return calls;
}

/// Maps and unmaps while a tensor swings between two lengths.
template <class Policy>
std::size_t calls_of_a_swing(std::size_t low, std::size_t high, std::size_t swings) {
    page_counter<Policy> range{1000};
    range.grow(high);
    range.shrink(low);
    std::size_t calls = 0;
    for (std::size_t swing = 0; swing < swings; ++swing) {
        calls += range.grow(high) ? 1u : 0u;
        calls += range.shrink(low) ? 1u : 0u;
    }
    return calls;
}

} // namespace

TEST_CASE("exact growth has just the pages that are needed") {
    check_table(growth::exact{}, {{0, 0, 0}, {0, 1, 1}, {3, 7, 7}, {7, 7, 7}, {9, 2, 2}, {9, 0, 0}});
}

TEST_CASE("fixed growth has multiples of its step") {
    check_table(growth::fixed<4>{},
                {{0, 0, 0}, {0, 1, 4}, {4, 4, 4}, {4, 5, 8}, {8, 9, 12}, {12, 4, 4}, {12, 3, 4}, {12, 0, 0}});
    check_table(growth::fixed<1>{}, {{0, 5, 5}, {5, 2, 2}});
}

TEST_CASE("geometric growth multiplies what is mapped, rounded up, or takes what is needed") {
    check_table(growth::geometric<3, 2>{},
                {{0, 0, 0}, {0, 1, 1}, {1, 2, 2}, {2, 3, 3}, {3, 4, 5}, {5, 6, 8}, {8, 9, 12}, {8, 40, 40}});
    check_table(growth::geometric<2, 1>{}, {{0, 1, 1}, {1, 2, 2}, {2, 3, 4}, {4, 5, 8}, {100, 101, 200}});
    check_table(growth::geometric<11, 10>{}, {{1, 2, 2}, {10, 11, 11}, {20, 21, 22}});
}

TEST_CASE("geometric growth keeps what is mapped until less than the factor's square is used") {
    // 3/2: 10 pages are kept while 1.5 · 1.5 · needed reaches them: needed 5 gives 8 and 12, needed 4 gives 6
    // and 9.
    check_table(growth::geometric<3, 2>{},
                {{10, 10, 10}, {10, 6, 10}, {10, 5, 10}, {10, 4, 6}, {10, 1, 2}, {10, 0, 0}});
    check_table(growth::geometric<2, 1>{}, {{16, 8, 16}, {16, 4, 16}, {16, 3, 6}, {16, 0, 0}});
}

TEST_CASE("look-ahead growth maps what is needed and keeps what was mapped ahead") {
    check_table(growth::look_ahead<4>{},
                {{0, 0, 0}, {0, 3, 3}, {3, 4, 4}, {8, 6, 8}, {8, 4, 8}, {8, 3, 7}, {8, 0, 4}, {2, 0, 2}});
}

TEST_CASE("look-ahead asks for its pages as soon as fewer than half of them are left") {
    const auto ahead = [](auto policy, std::size_t mapped, std::size_t needed) {
        return policy.ahead(growth_state{page_count{mapped}, page_count{needed}, 1000_pages}).count();
    };
    const growth::look_ahead<4> four;
    CHECK(ahead(four, 1, 1) == 5);
    CHECK(ahead(four, 5, 1) == 5);
    CHECK(ahead(four, 5, 3) == 5);
    CHECK(ahead(four, 5, 4) == 8);
    CHECK(ahead(four, 5, 5) == 9);
    const growth::look_ahead<1> one;
    CHECK(ahead(one, 1, 1) == 2);
    CHECK(ahead(one, 2, 1) == 2);
    const growth::look_ahead<3> three;
    CHECK(ahead(three, 4, 2) == 4);
    CHECK(ahead(three, 4, 3) == 6);
}

TEST_CASE("every clamped answer covers what is needed and stays within the limit") {
    const auto check_policy = [](auto policy) {
        for (std::size_t limit = 1; limit <= 24; ++limit) {
            for (std::size_t mapped = 0; mapped <= limit; ++mapped) {
                for (std::size_t needed = 0; needed <= limit; ++needed) {
                    const growth_state state{page_count{mapped}, page_count{needed}, page_count{limit}};
                    const std::size_t target = std::min(policy.target(state).count(), limit);
                    // Without the lower clamp: no shipped policy answers less than what is needed.
                    REQUIRE(target >= needed);
                }
            }
        }
    };
    check_policy(growth::exact{});
    check_policy(growth::fixed<1>{});
    check_policy(growth::fixed<5>{});
    check_policy(growth::geometric<3, 2>{});
    check_policy(growth::geometric<2, 1>{});
    check_policy(growth::geometric<9, 8>{});
    check_policy(growth::look_ahead<1>{});
    check_policy(growth::look_ahead<6>{});
}

TEST_CASE("growing page by page costs one call a page, a step, or a factor") {
    constexpr std::size_t pages = 10'000;
    CHECK(growth_calls<growth::exact>(pages) == pages);
    CHECK(growth_calls<growth::fixed<8>>(pages) == pages / 8);
    CHECK(growth_calls<growth::geometric<2, 1>>(pages) <= 1 + static_cast<std::size_t>(std::log2(pages)) + 1);
    CHECK(growth_calls<growth::geometric<3, 2>>(pages) <=
          2 + static_cast<std::size_t>(std::log(pages) / std::log(1.5)) + 1);
    CHECK(growth_calls<growth::geometric<3, 2>>(100 * pages) <=
          growth_calls<growth::geometric<3, 2>>(pages) +
              static_cast<std::size_t>(std::log(100.0) / std::log(1.5)) + 1);
}

TEST_CASE("geometric growth leaves at most the stated share of pages unused") {
    page_counter<growth::geometric<3, 2>> range{100'000};
    for (std::size_t needed = 1; needed < 20'000; ++needed) {
        if (range.grow(needed))
            REQUIRE((range.mapped() - needed) * 3 <= range.mapped());
    }
}

TEST_CASE("a tensor that swings around a boundary maps and unmaps in turn only under exact growth") {
    CHECK(calls_of_a_swing<growth::exact>(7, 8, 50) == 100);
    CHECK(calls_of_a_swing<growth::geometric<3, 2>>(7, 8, 50) == 0);
    CHECK(calls_of_a_swing<growth::geometric<3, 2>>(100, 140, 50) == 0);
    CHECK(calls_of_a_swing<growth::look_ahead<4>>(7, 10, 50) == 0);
    for (std::size_t low = 1; low < 200; ++low)
        REQUIRE(calls_of_a_swing<growth::geometric<2, 1>>(low, low + 1, 10) == 0);
}
