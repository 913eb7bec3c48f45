// SPDX-License-Identifier: Apache-2.0
//
// What a sequence holds, by the kernel's own figures: physical memory, and mappings, of which there are only
// so many.
#include "cache_scene.hpp"

#include "support/kernel_figures.hpp"

#include <vtensor/backends/host.hpp>

#include <type_traits>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// A small model: rows of 2 KiB a layer for keys and as much for values.
constexpr kv::model_shape model{
    .layers = 32, .layer = {.kv_heads = 8, .key_width = 128, .value_width = 128, .max_rows = 2048}};

template <class Layer>
void holds_what_it_says(bytes page) {
    host_backend memory;
    layer_pool<host_backend> pool{memory, {.chunk_size = page}};
    auto cache = kv::kv_cache<Layer>::try_create(pool, model, {.tokens_a_growth = 64}).value();
    CHECK(kernel_memory_file_bytes() == bytes{0});
    for (const std::size_t tokens : {std::size_t{1}, std::size_t{100}, std::size_t{1000}}) {
        REQUIRE(cache.try_append(tokens - cache.tokens()));
        const auto figures = cache.figures();
        CHECK(figures.tokens == tokens);
        CHECK(figures.used == bytes{4096} * (32 * tokens));
        CHECK(figures.live_rows == 32 * 8 * tokens);
        CHECK(figures.mapped == kernel_memory_file_bytes());
        CHECK(figures.mapped <= figures.reserved);
        CHECK(figures.used + figures.part_pages + figures.ahead <= figures.mapped);
    }
    const std::size_t ready = cache.ready();
    const bytes most = cache.figures().mapped;
    cache.truncate(10);
    CHECK(cache.figures().mapped == most); // kept for tokens to come
    CHECK(cache.ready() >= ready);
    REQUIRE(cache.try_trim());
    REQUIRE(pool.trim());
    CHECK(cache.figures().mapped == kernel_memory_file_bytes());
    CHECK(cache.figures().mapped <= cache.figures().used + page * (2 * 32 * 8) + bytes{40 * 4096 * 32});
    cache.truncate(0);
    REQUIRE(cache.try_trim());
    REQUIRE(pool.trim());
    const bool keeps_room = std::is_same_v<Layer, packed<float16, host_backend>>; // 32 rows a head
    CHECK(kernel_memory_file_bytes() <= (keeps_room ? round_up(64_KiB, page) * 64 : bytes{0}));
}

/// Lines of /proc/self/maps that hold 512 tokens which came one by one.
template <class Layer>
std::size_t mappings(std::size_t tokens_a_growth) {
    host_backend memory;
    layer_pool<host_backend> pool{memory, {.chunk_size = 4_KiB}};
    auto cache = kv::kv_cache<Layer>::try_create(pool, model, {.tokens_a_growth = tokens_a_growth}).value();
    for (int token = 0; token < 512; ++token)
        REQUIRE(cache.try_append(1));
    return memory_file_lines();
}

} // namespace

TEST_CASE("a sequence's figures are the kernel's: per layer") {
    for (const bytes page : {4_KiB, 64_KiB, 2_MiB})
        holds_what_it_says<per_layer<float16, host_backend>>(page);
}
TEST_CASE("a sequence's figures are the kernel's: per head") {
    holds_what_it_says<per_head<float16, host_backend>>(4_KiB);
    holds_what_it_says<per_head<float16, host_backend>>(64_KiB);
}
TEST_CASE("a sequence's figures are the kernel's: packed") {
    for (const bytes page : {4_KiB, 64_KiB, 2_MiB})
        holds_what_it_says<packed<float16, host_backend>>(page);
}

TEST_CASE("part pages are what rows leave free of the last page of each tensor") {
    host_backend memory;
    layer_pool<host_backend> pool{memory, {.chunk_size = 64_KiB}};
    auto cache = kv::kv_cache<per_layer<float16, host_backend>>::try_create(pool, model).value();
    CHECK(cache.figures().part_pages == bytes{0});
    REQUIRE(cache.try_append(33)); // 32 rows a page
    CHECK(cache.figures().part_pages == bytes{64 * 31 * 2048});
    REQUIRE(cache.try_append(31));
    CHECK(cache.figures().part_pages == bytes{0});
    const bytes before = cache.figures().ahead;
    cache.truncate(32); // a page more in each tensor is without rows
    CHECK(cache.figures().ahead - before == bytes{64 * 64 * 1024});
    CHECK(cache.figures().used + cache.figures().ahead == cache.figures().mapped);
}

TEST_CASE("growing in runs keeps neighbouring pages together, and so the number of mappings small") {
    // 512 tokens are 256 pages in each of 64 tensors: 16,384 pages in all. The limit is 65,530 mappings.
    const std::size_t in_runs = mappings<per_layer<float16, host_backend>>(64);
    const std::size_t page_by_page = mappings<per_layer<float16, host_backend>>(0);
    INFO(in_runs << " mappings in runs, " << page_by_page << " page by page");
    CHECK(in_runs <= 64 * 512 / 64);
    CHECK(page_by_page > 10 * in_runs);
    CHECK(mappings<packed<float16, host_backend>>(64) <= 64 * 512 / 64);
}
