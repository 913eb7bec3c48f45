// SPDX-License-Identifier: Apache-2.0
//
// page_map: states and chunks of pages through a growth, an undo and a shrink.
#include "support/catch.hpp"
#include "support/sanitizers.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/memory/page_map.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

using namespace vtensor;

namespace {

using pool_type = chunk_pool<host_backend>;
using map_type = page_map<host_backend>;

/// Enters the chunks as the next pages of the map, mapped and not accessible.
template <class Chunks>
void enter(map_type& map, const Chunks& chunks) {
    const auto room = map.prepare(page_count{chunks.size()});
    REQUIRE(room);
    REQUIRE(room->size() == chunks.size());
    for (std::size_t page = 0; page < chunks.size(); ++page)
        (*room)[page] = chunks[page];
    map.add(page_count{chunks.size()});
}

} // namespace

TEST_CASE("an empty page map has only reserved pages") {
    const map_type map;
    CHECK(map.mapped() == 0_pages);
    CHECK(map.accessible() == 0_pages);
    CHECK(map.state(page_index{0}) == page_state::reserved);
    CHECK_FALSE(map[page_index{0}]);
    CHECK(map.tail(0_pages).empty());
    CHECK_FALSE(map.find(pooled_chunk<host_backend>{}));
}

TEST_CASE("pages go from reserved over mapped to accessible and back, each with its chunk") {
    host_backend backend;
    pool_type pool{backend};
    std::array<pool_type::chunk, 5> chunks;
    REQUIRE(pool.acquire(chunks));

    map_type map;
    enter(map, std::vector(chunks.begin(), chunks.begin() + 3));
    CHECK(map.mapped() == 3_pages);
    CHECK(map.state(page_index{2}) == page_state::mapped);
    map.open();
    enter(map, std::vector(chunks.begin() + 3, chunks.end()));
    CHECK(map.accessible() == 3_pages);
    CHECK(map.mapped() == 5_pages);
    CHECK(map.state(page_index{2}) == page_state::accessible);
    CHECK(map.state(page_index{3}) == page_state::mapped);
    CHECK(map.state(page_index{5}) == page_state::reserved);
    for (std::size_t page = 0; page < chunks.size(); ++page) {
        CHECK(map[page_index{page}] == chunks[page]);
        CHECK(map.find(chunks[page]) == page_index{page});
    }
    CHECK_FALSE(map[page_index{5}]);

    CHECK(map.tail(3_pages).size() == 2);
    CHECK(map.tail(3_pages)[1] == chunks[4]);
    map.cut(4_pages);
    CHECK(map.mapped() == 4_pages);
    CHECK(map.accessible() == 3_pages);
    CHECK_FALSE(map.find(chunks[4]));
    map.cut(1_pages);
    CHECK(map.mapped() == 1_pages);
    CHECK(map.accessible() == 1_pages);
    CHECK(map.state(page_index{1}) == page_state::reserved);

    for (const auto chunk : chunks)
        pool.release(chunk);
}

TEST_CASE("a page is read-only as long as its chunk is shared, whatever happens to the pages around it") {
    host_backend backend;
    pool_type pool{backend};
    std::array<pool_type::chunk, 6> chunks;
    REQUIRE(pool.acquire(chunks));

    map_type map;
    const auto room = map.prepare(6_pages);
    REQUIRE(room);
    std::copy(chunks.begin(), chunks.end(), room->begin());
    map.add(1_pages);
    map.add(2_pages, true);
    map.add(1_pages);
    map.add(1_pages, true);
    map.add(1_pages);
    map.open();
    CHECK(map.read_only_end() == 5_pages);
    CHECK_FALSE(map.is_read_only(page_index{0}));
    CHECK(map.is_read_only(page_index{2}));
    CHECK(map.is_read_only(page_index{4}));
    CHECK_FALSE(map.is_read_only(page_index{5}));
    CHECK_FALSE(map.is_read_only(page_index{9}));
    CHECK(map.first_read_only(0_pages) == 1_pages);
    CHECK(map.first_read_only(3_pages) == 4_pages);
    CHECK(map.first_read_only(5_pages) == 6_pages); // none
    CHECK(map.read_only(3_pages).size() == 3);

    map.cut(4_pages);
    CHECK(map.read_only_end() == 3_pages);
    map.add(1_pages); // the entry of the page that was there means nothing
    CHECK_FALSE(map.is_read_only(page_index{4}));
    const std::array<std::uint8_t, 3> flags{0, 1, 0};
    map.replace(std::span{chunks}.subspan(1, 3), flags, 5_pages, 4_pages);
    CHECK(map[page_index{0}] == chunks[1]);
    CHECK(map[page_index{4}] == chunks[4]);
    CHECK(map.mapped() == 5_pages);
    CHECK(map.accessible() == 4_pages);
    CHECK(map.read_only_end() == 2_pages);
    map_type moved{std::move(map)};
    CHECK(moved.read_only_end() == 2_pages);
    CHECK(map.read_only_end() ==
          0_pages); // NOLINT(bugprone-use-after-move): the moved-from state is what is tested
    moved.cut(1_pages);
    CHECK(moved.read_only_end() == 0_pages);
    for (const auto chunk : chunks)
        pool.release(chunk);
}

TEST_CASE("prepared pages that are never added stay reserved") {
    map_type map;
    REQUIRE(map.prepare(8_pages));
    CHECK(map.mapped() == 0_pages);
    CHECK(map.state(page_index{0}) == page_state::reserved);
    CHECK_FALSE(map[page_index{0}]);
    map.open();
    CHECK(map.accessible() == 0_pages);
}

TEST_CASE("a table that no memory can hold is refused, and the map stays as it was") {
    if (vtensor::testing::any_sanitizer)
        return; // it would end the program where operator new throws
    map_type map;
    const auto room = map.prepare(page_count{std::size_t{1} << 58});
    CHECK(room.code() == errc::out_of_memory);
    CHECK(room.error().where == verb::grow);
    CHECK(map.mapped() == 0_pages);
    CHECK(map.prepare(1_pages));
}

TEST_CASE("a page map that was moved from is empty") {
    host_backend backend;
    pool_type pool{backend};
    std::array<pool_type::chunk, 2> chunks;
    REQUIRE(pool.acquire(chunks));
    map_type map;
    enter(map, chunks);
    map.open();

    map_type moved{std::move(map)};
    CHECK(moved.mapped() == 2_pages);
    CHECK(moved.accessible() == 2_pages);
    CHECK(moved[page_index{1}] == chunks[1]);
    CHECK(map.mapped() == 0_pages); // NOLINT(bugprone-use-after-move): the moved-from state is what is tested
    CHECK(map.accessible() == 0_pages);
    CHECK(map.tail(0_pages).empty());
    for (const auto chunk : chunks)
        pool.release(chunk);
}
