// SPDX-License-Identifier: Apache-2.0
//
// When mapping allocates: only when there is more to keep than ever before, and where that fails nothing has
// changed.
#include "support/catch.hpp"
#include "support/failing_new.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cstddef>
#include <vector>

using namespace vtensor;
using testing::failing_new;
using vtensor::detail::mapping_block;

namespace {

constexpr std::size_t page_total = 4 * mapping_block::capacity + 3;

/// How many allocations `work` makes, of which the first fails.
template <class Work>
std::size_t failures_in(Work work) {
    failing_new::fail(1);
    work();
    return failing_new::disarm();
}

} // namespace

TEST_CASE("mapping what was mapped before allocates nothing") {
    host_backend backend;
    const address where = *backend.reserve(page_total * 4_KiB, 0_B);
    std::vector<host_chunk> chunks(page_total);
    for (host_chunk& chunk : chunks)
        chunk = *backend.create(4_KiB);

    status outcome;
    const auto keep_failure = [&](const status& step) { outcome = outcome ? step : outcome; };
    const auto map = [&](std::size_t page) { keep_failure(backend.map(where + page * 4_KiB, chunks[page])); };
    const auto open = [&](std::size_t page) {
        keep_failure(backend.set_access(where + page * 4_KiB, 4_KiB, access_mode::read_write));
    };
    const auto unmap = [&](std::size_t page) { keep_failure(backend.unmap(where + page * 4_KiB, 4_KiB)); };
    const auto grow_and_shrink = [&] {
        for (std::size_t page = 0; page < page_total; ++page) {
            map(page);
            open(page);
        }
        for (std::size_t page = page_total; page-- > 0;)
            unmap(page);
    };

    CHECK(failures_in([&] { outcome = backend.map(where, chunks[0]); }) == 1); // the test sees allocations
    CHECK(outcome.code() == errc::out_of_memory);
    outcome = {};

    grow_and_shrink();
    REQUIRE(outcome.ok());
    CHECK(failures_in(grow_and_shrink) == 0);
    CHECK(failures_in([&] { // the whole range at once
              for (std::size_t page = 0; page < page_total; ++page)
                  map(page);
              keep_failure(backend.unmap(where, page_total * 4_KiB));
          }) == 0);
    CHECK(failures_in([&] { // first in, first out
              for (std::size_t page = 0; page < page_total; ++page)
                  map(page);
              for (std::size_t page = 0; page < page_total; ++page)
                  unmap(page);
          }) == 0);
    CHECK(outcome.ok());
    CHECK(backend.mapping_count() == 0);
}

TEST_CASE("a tensor that grows and shrinks as before allocates nothing") {
    host_backend backend;
    chunk_pool<host_backend> pool{backend, {.chunk_size = 64_KiB}};
    virtual_tensor<std::byte, host_backend> tensor{pool, {64 * 1024}, page_total};
    status outcome;
    const auto swing = [&] {
        for (std::size_t rows = 1; outcome && rows <= page_total; ++rows)
            outcome = tensor.try_resize(rows);
        for (std::size_t rows = page_total; outcome && rows-- > 0;)
            outcome = tensor.try_resize(rows);
    };
    CHECK(failures_in(swing) == 1); // the test sees allocations
    outcome = {};
    swing();
    REQUIRE(outcome.ok());
    CHECK(failures_in(swing) == 0);
    CHECK(outcome.ok());
    CHECK(tensor.verify());
}

TEST_CASE("a mapping that finds no memory for a block changes nothing, at the end and in the middle") {
    // Every other page, so that there is room between any two; the first block is full.
    constexpr std::size_t capacity = mapping_block::capacity;
    host_backend backend;
    const address where = *backend.reserve(4 * capacity * 4_KiB, 0_B);
    const host_chunk chunk = *backend.create(4_KiB);
    const auto map = [&](std::size_t page) { return backend.map(where + page * 4_KiB, chunk); };
    const auto mapped = [&](std::size_t page) {
        const errc code = backend.set_access(where + page * 4_KiB, 4_KiB, access_mode::none).code();
        REQUIRE((code == errc::ok || code == errc::not_mapped));
        return code == errc::ok;
    };
    for (std::size_t index = 0; index < capacity; ++index)
        REQUIRE(map(1 + 2 * index));

    const std::size_t page = GENERATE(0U, 2U, mapping_block::capacity, 2 * mapping_block::capacity - 2,
                                      2 * mapping_block::capacity);
    status outcome;
    REQUIRE(failures_in([&] { outcome = map(page); }) == 1);
    CHECK(outcome.code() == errc::out_of_memory);
    CHECK(backend.mapping_count() == capacity);
    for (std::size_t index = 0; index < 4 * capacity; ++index)
        CHECK(mapped(index) == (index % 2 == 1 && index < 2 * capacity));

    REQUIRE(map(page));
    CHECK(backend.mapping_count() == capacity + 1);
    for (std::size_t index = 0; index < 4 * capacity; ++index)
        CHECK(mapped(index) == (index == page || (index % 2 == 1 && index < 2 * capacity)));
}
