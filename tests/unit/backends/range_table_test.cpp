// SPDX-License-Identifier: Apache-2.0
//
// range_table against a model that keeps one entry for each page.
#include "support/catch.hpp"

#include <vtensor/backends/detail/range_table.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

using namespace vtensor;
using vtensor::detail::mapping_block;
using vtensor::detail::range_table;

namespace {

constexpr std::size_t unlimited = 1'000'000;

address at(std::size_t page) { return address{page * 4096}; }
bytes pages(std::size_t count) { return count * 4_KiB; }

/// The chunks of what covers a range, in order; and every neighbour is where the one before it ends.
std::vector<std::uint32_t> chunks_of(const range_table::covered& found) {
    std::vector<std::uint32_t> chunks;
    address expected = found.first->start;
    for (auto entry = found.first; entry; entry = found.after(entry)) {
        REQUIRE(entry->start == expected);
        expected = entry->end();
        chunks.push_back(entry->chunk);
    }
    REQUIRE(expected == found.last->end());
    return chunks;
}

/// What lies behind each page.
class page_model {
  public:
    struct range {
        std::size_t first;
        std::size_t count;
    };

    page_model(std::size_t page_total, std::vector<range> reserved)
        : pages_(page_total), reserved_{std::move(reserved)} {}

    [[nodiscard]] errc add(std::size_t first, std::size_t count, std::uint32_t chunk) {
        if (!is_reserved(first, count))
            return errc::not_reserved;
        for (std::size_t page = first; page < first + count; ++page)
            if (pages_[page].mapped)
                return errc::already_mapped;
        for (std::size_t page = first; page < first + count; ++page)
            pages_[page] = {true, page == first, page + 1 == first + count, chunk};
        ++mappings;
        return errc::ok;
    }
    [[nodiscard]] errc cover(std::size_t first, std::size_t count, std::vector<std::uint32_t>& chunks) const {
        if (!is_reserved(first, count))
            return errc::not_reserved;
        for (std::size_t page = first; page < first + count; ++page) {
            if (!pages_[page].mapped)
                return errc::not_mapped;
            if (pages_[page].starts)
                chunks.push_back(pages_[page].chunk);
        }
        const bool whole = pages_[first].starts && pages_[first + count - 1].ends;
        return whole ? errc::ok : errc::partial_mapping;
    }
    void remove(std::size_t first, std::size_t count) {
        for (std::size_t page = first; page < first + count; ++page) {
            mappings -= pages_[page].starts ? 1U : 0U;
            pages_[page] = {};
        }
    }
    [[nodiscard]] bool free(const range& reserved) const {
        for (std::size_t page = reserved.first; page < reserved.first + reserved.count; ++page)
            if (pages_[page].mapped)
                return false;
        return true;
    }

    std::size_t mappings = 0;

  private:
    struct content {
        bool mapped = false;
        bool starts = false;
        bool ends = false;
        std::uint32_t chunk = 0;
    };

    [[nodiscard]] bool is_reserved(std::size_t first, std::size_t count) const {
        for (const range& one : reserved_)
            if (first >= one.first && first + count <= one.first + one.count)
                return true;
        return false;
    }

    std::vector<content> pages_;
    std::vector<range> reserved_;
};

} // namespace

TEST_CASE("random mappings agree with an entry for each page") {
    // Two reservations touch, the third lies alone; a block of mappings is a small part of each.
    const std::vector<page_model::range> reserved{{10, 200}, {210, 150}, {400, 120}};
    const std::size_t largest = GENERATE(1U, 3U);
    std::mt19937_64 random{20240722 + largest};
    range_table table{unlimited};
    page_model model{600, reserved};
    for (const auto& one : reserved)
        REQUIRE(table.add_reservation(at(one.first), pages(one.count)) == errc::ok);

    std::size_t most = 0;
    std::size_t removed = 0;
    for (std::uint32_t step = 0; step < 60'000; ++step) {
        const bool filling = step / 5'000 % 2 == 0; // fill and empty in turn, so that blocks come and go
        const std::size_t first = random() % 560;
        if (random() % 4 < (filling ? 3U : 1U)) {
            const std::size_t count = 1 + random() % largest;
            const errc expected = model.add(first, count, step);
            REQUIRE(table.add_mapping(at(first), pages(count), step) == expected);
        } else {
            const std::size_t count = 1 + random() % (filling ? 4 : 30);
            std::vector<std::uint32_t> expected;
            const errc refusal = model.cover(first, count, expected);
            const auto found = table.cover(at(first), pages(count));
            REQUIRE(found.refusal == refusal);
            if (refusal == errc::ok) {
                REQUIRE(chunks_of(found) == expected);
                std::vector<std::uint32_t> visited;
                table.remove(found, [&](std::uint32_t chunk) { visited.push_back(chunk); });
                REQUIRE(visited == expected);
                model.remove(first, count);
                removed += expected.size();
            }
        }
        REQUIRE(table.mapping_count() == model.mappings);
        most = std::max(most, model.mappings);
        for (const auto& one : reserved)
            REQUIRE((table.check_release(at(one.first), pages(one.count)) == errc::ok) == model.free(one));
    }
    CHECK(most > 5 * mapping_block::capacity);
    CHECK(removed > 1000);
}

TEST_CASE("mappings are found in whatever order they came") {
    constexpr std::size_t count = 5 * mapping_block::capacity + 3;
    std::vector<std::size_t> order(count);
    for (std::size_t index = 0; index < count; ++index)
        order[index] = index;
    SECTION("ascending") {}
    SECTION("descending") { std::reverse(order.begin(), order.end()); }
    SECTION("shuffled") { std::shuffle(order.begin(), order.end(), std::mt19937_64{7}); }
    SECTION("every second one last") {
        std::stable_partition(order.begin(), order.end(), [](std::size_t index) { return index % 2 == 0; });
    }

    range_table table{unlimited};
    REQUIRE(table.add_reservation(at(1), pages(count)) == errc::ok);
    for (const std::size_t index : order)
        REQUIRE(table.add_mapping(at(1 + index), pages(1), static_cast<std::uint32_t>(index)) == errc::ok);
    const auto found = table.cover(at(1), pages(count));
    REQUIRE(found.refusal == errc::ok);
    const auto chunks = chunks_of(found);
    REQUIRE(chunks.size() == count);
    for (std::size_t index = 0; index < count; ++index)
        CHECK(chunks[index] == index);

    // A part in the middle, over several blocks, leaves both sides.
    table.remove(table.cover(at(5), pages(count - 10)), [](std::uint32_t) {});
    CHECK(chunks_of(table.cover(at(1), pages(4))) == std::vector<std::uint32_t>{0, 1, 2, 3});
    CHECK(table.cover(at(5), pages(1)).refusal == errc::not_mapped);
    CHECK(chunks_of(table.cover(at(count), pages(1))) == std::vector<std::uint32_t>{count - 1});
    CHECK(table.mapping_count() == 10);
}

TEST_CASE("a released reservation is not found again, also where it was the last one looked for") {
    range_table table{unlimited};
    REQUIRE(table.add_reservation(at(8), pages(8)) == errc::ok);
    REQUIRE(table.find(at(9), pages(1)) != nullptr);
    REQUIRE(table.check_release(at(8), pages(8)) == errc::ok);
    table.remove_reservation(at(8));
    CHECK(table.find(at(9), pages(1)) == nullptr);
    CHECK(table.check_release(at(8), pages(8)) == errc::not_reserved);

    // The same address again, smaller, and a neighbour in what was left.
    REQUIRE(table.add_reservation(at(8), pages(2)) == errc::ok);
    CHECK(table.find(at(9), pages(1)) != nullptr);
    CHECK(table.find(at(9), pages(2)) == nullptr);
    CHECK(table.find(at(10), pages(1)) == nullptr);
    REQUIRE(table.add_reservation(at(10), pages(2)) == errc::ok);
    REQUIRE(table.find(at(10), pages(1)) != nullptr);
    CHECK(table.find(at(10), pages(1))->start == at(10));
    CHECK(table.find(at(9), pages(1))->start == at(8));
    CHECK(table.find(at(9), pages(2)) == nullptr); // two reservations, not one
}

TEST_CASE("no more mappings than allowed are entered") {
    range_table table{2};
    REQUIRE(table.add_reservation(at(1), pages(8)) == errc::ok);
    REQUIRE(table.add_mapping(at(1), pages(1), 0) == errc::ok);
    REQUIRE(table.add_mapping(at(3), pages(1), 0) == errc::ok);
    CHECK(table.add_mapping(at(2), pages(1), 0) == errc::too_many_mappings);
    CHECK(table.add_mapping(at(3), pages(1), 0) == errc::already_mapped);
    CHECK(table.mapping_count() == 2);
    CHECK(table.cover(at(2), pages(1)).refusal == errc::not_mapped);
    table.remove(table.cover(at(3), pages(1)), [](std::uint32_t) {});
    CHECK(table.add_mapping(at(2), pages(1), 0) == errc::ok);
}
