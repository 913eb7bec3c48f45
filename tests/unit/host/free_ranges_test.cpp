// SPDX-License-Identifier: Apache-2.0
//
// free_ranges against a model that keeps one flag for each unit.
#include "support/catch.hpp"

#include <vtensor/backends/host/free_ranges.hpp>

#include <cstddef>
#include <random>
#include <utility>
#include <vector>

using namespace vtensor;
using host::free_ranges;

namespace {

void give(free_ranges& ranges, std::size_t offset, std::size_t size) {
    auto spare = free_ranges::spare_node::allocate();
    REQUIRE(spare);
    ranges.give(offset, bytes{size}, std::move(spare));
}

/// One flag a unit, searched from the left.
class flag_model {
  public:
    explicit flag_model(std::size_t units) : free_(units, false) {}

    struct run {
        std::size_t offset = 0;
        std::size_t size = 0;
    };
    [[nodiscard]] std::vector<run> runs() const {
        std::vector<run> found;
        for (std::size_t at = 0; at < free_.size(); ++at) {
            if (!free_[at])
                continue;
            if (found.empty() || found.back().offset + found.back().size != at)
                found.push_back({at, 0});
            ++found.back().size;
        }
        return found;
    }
    /// The leftmost of the smallest runs that hold `size`, or a run of size 0.
    [[nodiscard]] run best(std::size_t size) const {
        run chosen;
        for (const run& candidate : runs()) {
            if (candidate.size >= size && (chosen.size == 0 || candidate.size < chosen.size))
                chosen = candidate;
        }
        return chosen;
    }
    void mark(std::size_t offset, std::size_t size, bool free) {
        for (std::size_t at = offset; at < offset + size; ++at) {
            REQUIRE(free_[at] != free);
            free_[at] = free;
        }
    }

  private:
    std::vector<bool> free_;
};

} // namespace

TEST_CASE("no range can be taken where none was given") {
    free_ranges ranges;
    std::size_t offset = 77;
    CHECK_FALSE(ranges.take(1_B, offset));
    CHECK(offset == 77);
    CHECK(ranges.count() == 0);
}

TEST_CASE("neighbours become one range, whichever side comes last") {
    free_ranges ranges;
    give(ranges, 10, 10);
    give(ranges, 30, 10);
    CHECK(ranges.count() == 2);
    SECTION("the gap last") {
        give(ranges, 20, 10);
        CHECK(ranges.count() == 1);
        std::size_t offset = 0;
        REQUIRE(ranges.take(30_B, offset));
        CHECK(offset == 10);
        CHECK(ranges.count() == 0);
    }
    SECTION("the left side") {
        give(ranges, 0, 10);
        CHECK(ranges.count() == 2);
    }
    SECTION("the right side") {
        give(ranges, 40, 5);
        CHECK(ranges.count() == 2);
    }
    SECTION("no neighbour") {
        give(ranges, 50, 5);
        CHECK(ranges.count() == 3);
    }
}

TEST_CASE("the smallest range that fits is used, and its rest stays free") {
    free_ranges ranges;
    give(ranges, 0, 100);
    give(ranges, 200, 8);
    give(ranges, 300, 8);
    std::size_t offset = 0;
    REQUIRE(ranges.take(5_B, offset));
    CHECK(offset == 200);
    REQUIRE(ranges.take(3_B, offset));
    CHECK(offset == 205);
    REQUIRE(ranges.take(9_B, offset));
    CHECK(offset == 0);
    CHECK(ranges.count() == 2);
    CHECK_FALSE(ranges.take(92_B, offset));
    REQUIRE(ranges.take(91_B, offset));
    CHECK(offset == 9);
}

TEST_CASE("random gives and takes agree with a flag for each unit") {
    constexpr std::size_t units = 256;
    std::mt19937_64 random{20240722};
    free_ranges ranges;
    flag_model model{units};
    std::vector<flag_model::run> taken{{0, units}}; // at first everything is somebody's
    std::size_t takes = 0;
    for (int step = 0; step < 20'000; ++step) {
        const bool giving = random() % 2 == 0;
        if (giving && !taken.empty()) {
            const std::size_t chosen = random() % taken.size();
            flag_model::run& held = taken[chosen];
            const std::size_t part = 1 + random() % held.size;
            give(ranges, held.offset, part);
            model.mark(held.offset, part, true);
            held.offset += part;
            held.size -= part;
            if (held.size == 0)
                taken.erase(taken.begin() + static_cast<std::ptrdiff_t>(chosen));
        } else if (!giving) {
            const std::size_t size = 1 + random() % 24;
            const flag_model::run expected = model.best(size);
            std::size_t offset = 0;
            const bool got = ranges.take(bytes{size}, offset);
            REQUIRE(got == (expected.size != 0));
            if (got) {
                REQUIRE(offset == expected.offset);
                model.mark(offset, size, false);
                taken.push_back({offset, size});
                ++takes;
            }
        }
        REQUIRE(ranges.count() == model.runs().size());
    }
    CHECK(takes > 1000);
}
