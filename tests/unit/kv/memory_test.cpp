// SPDX-License-Identifier: Apache-2.0
//
// What the layouts hold by the kernel's own count, before an eviction and after it.
#include "layouts.hpp"

#include "support/kernel_figures.hpp"

#include <vtensor/backends/host.hpp>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

struct measured {
    bytes before{};
    bytes after{};
};

/// A layer of 8 heads of 128 half-precision elements, evicted to `shares[head]` of its rows and compacted.
template <class Cache>
measured evict_to(const std::vector<double>& shares, std::size_t rows, bytes page) {
    host_backend memory;
    layer_pool<host_backend> pool{memory, {.chunk_size = page}};
    const kv::layer_shape shape{
        .kv_heads = shares.size(), .key_width = 128, .value_width = 128, .max_rows = 16'384};
    auto cache = Cache::try_create(pool, shape).value();
    REQUIRE(cache.try_append(rows));
    REQUIRE(pool.trim(0));
    measured figures{.before = kernel_memory_file_bytes()};
    REQUIRE(figures.before == cache.figures().mapped);

    eviction::kept_rows kept;
    REQUIRE(kept.reset(1, shape.kv_heads));
    for (const double share : shares) {
        std::vector<slot_type> slots;
        const auto stay = static_cast<std::size_t>(share * static_cast<double>(rows));
        for (std::size_t index = 0; index < stay; ++index)
            slots.push_back(static_cast<slot_type>(index * rows / stay));
        REQUIRE(kept.add(slots));
    }
    std::vector<defrag::plan> plans(shape.kv_heads);
    REQUIRE(cache.try_evict(kept, 0));
    REQUIRE(cache.try_defragment(defrag::compact{}, plans));
    REQUIRE(pool.trim(0));
    figures.after = kernel_memory_file_bytes();
    REQUIRE(figures.after == cache.figures().mapped);
    return figures;
}

bytes fifth_of(bytes whole) { return bytes{whole.count() / 5}; }

constexpr std::size_t heads = 8;
const std::vector<double> even(heads, 0.2);
/// 20 % over the layer, from 5 % to 35 % a head.
const std::vector<double> ragged{0.05, 0.1, 0.15, 0.2, 0.2, 0.25, 0.3, 0.35};

} // namespace

TEST_CASE("after evicting to a fifth a tensor a head holds a fifth and a page each") {
    for (const bytes page : {4_KiB, 64_KiB}) {
        for (const auto& shares : {even, ragged}) {
            const auto figures = evict_to<per_head<float16, host_backend>>(shares, 4096, page);
            CHECK(figures.after <= fifth_of(figures.before) + page * (2 * heads));
        }
    }
}

TEST_CASE("after evicting to a fifth packed heads hold a fifth, their room, and two pages a layer") {
    for (const bytes page : {4_KiB, 64_KiB, 2_MiB}) {
        for (const auto& shares : {even, ragged}) {
            const std::size_t rows = 4096;
            const auto figures = evict_to<packed<float16, host_backend>>(shares, rows, page);
            const bytes row = bytes{256} * 2; // a key and a value
            bytes room{};
            for (const double share : shares) {
                const auto kept = static_cast<std::size_t>(share * static_cast<double>(rows));
                room += row * (kv::packed_room{}.around(kept, 16'384) - kept);
            }
            CHECK(figures.after <= row * (rows * heads / 5) + room + page * 2);
        }
    }
}

TEST_CASE("after evicting every head to a fifth the shared tensors hold a fifth and two pages a layer") {
    for (const bytes page : {4_KiB, 64_KiB, 2_MiB}) {
        const auto figures = evict_to<per_layer<float16, host_backend>>(even, 4096, page);
        CHECK(figures.after <= fifth_of(figures.before) + page * 2);
    }
    SECTION("with heads of different lengths memory goes by the longest, as documented") {
        const auto figures = evict_to<per_layer<float16, host_backend>>(ragged, 4096, 4_KiB);
        const bytes longest{figures.before.count() * 35 / 100};
        CHECK(figures.after <= longest + 4_KiB * 2);
        CHECK(figures.after >= longest - 4_KiB * 2);
    }
}
