// SPDX-License-Identifier: Apache-2.0
//
// A defragmentation with its backend calls failing, one after another, under every policy, on one tensor and
// on two that move together; on host memory, on a device without memory of its own for the CPU, and on
// streams. After each failure either nothing has changed or all of it has, the next attempt works, and
// nothing is leaked.
#include "support/failing_memory.hpp"
#include "support/fault_loop.hpp"
#include "support/proc_maps.hpp"
#include "world.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/tensor_group.hpp>

#include <optional>
#include <string>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// Of 75 rows 20, on blocks of 16 rows: two are dead, one is full, the last ends early.
std::vector<slot_type> scattered() {
    std::vector<slot_type> kept{17, 18};
    for (slot_type slot = 48; slot < 64; ++slot)
        kept.push_back(slot);
    kept.insert(kept.end(), {66, 70});
    return kept;
}
/// All but the third and the last.
std::vector<slot_type> nearly_all() {
    std::vector<slot_type> kept{0, 1};
    for (slot_type slot = 3; slot < 74; ++slot)
        kept.push_back(slot);
    return kept;
}

/// Two tensors that hold the same tokens, rows over the edges of pages, and what must be in them.
template <class Place>
struct scene {
    using backend_type = typename Place::backend_type;
    using pool_type = chunk_pool<backend_type>;
    using tensor_type = evicting_tensor<backend_type>;

    Place place;
    pool_type small{place.backend, {.chunk_size = 4_KiB}};
    pool_type large{place.backend, {.chunk_size = 8_KiB}};
    std::optional<tensor_type> keys;
    std::optional<tensor_type> values;
    std::vector<slot_type> kept = scattered();
    std::vector<position_type> before;

    /// 75 rows, evicted down to `kept`.
    void set() {
        keys.reset();
        values.reset();
        collect();
        REQUIRE(small.trim());
        REQUIRE(large.trim());
        keys.emplace(small, row_shape{1024}, 100);
        values.emplace(large, row_shape{1536}, 100);
        REQUIRE(append_filled(*keys, 75));
        REQUIRE(append_filled(*values, 75, 5));
        REQUIRE(tensor_group{*keys, *values}.try_evict(kept));
        before.assign(keys->positions().begin(), keys->positions().end());
    }
    void collect() {
        place.finish();
        if constexpr (stream_ordered_backend<backend_type>) {
            REQUIRE(small.retiring().drain());
            REQUIRE(large.retiring().drain());
        }
    }
    [[nodiscard]] std::string figures() const {
        const auto of = [](const tensor_type& tensor) {
            const auto kernel = kernel_range(address{tensor.data()}, tensor.reserved_bytes());
            return std::to_string(tensor.rows()) + " rows, mapped " + to_string(tensor.mapped_bytes()) +
                   ", kernel " + to_string(kernel.memory_file) + " accessible " +
                   to_string(kernel.accessible);
        };
        return of(*keys) + "; " + of(*values) + "; in use " + to_string(small.stats().in_use) + " and " +
               to_string(large.stats().in_use) + ", created " + to_string(small.stats().created) + " and " +
               to_string(large.stats().created) + ", mappings " + std::to_string(place.host.mapping_count());
    }
    void check_sound() {
        place.finish();
        place.check_sound();
        CHECK((keys->verify() && values->verify()));
        CHECK((small.verify() && large.verify()));
        CHECK(wrong_bytes(*keys) == 0);
        CHECK(wrong_bytes(*values, 5) == 0);
        CHECK(live_positions(*keys) == live_positions(*values));
        CHECK(keys->live_rows() == kept.size());
        CHECK(place.host.kernel_physical_bytes() == small.stats().created + large.stats().created);
    }
};

/// Fails every call of one policy's defragmentation in turn. Returns how many there are.
template <class Place>
std::size_t loop(std::vector<slot_type> kept, std::size_t number, errc code, fault_length length) {
    scene<Place> faulty;
    faulty.kept = std::move(kept);
    faulty.set();
    const std::string before = faulty.figures();
    status last;
    const auto run = [&] {
        tensor_group both{*faulty.keys, *faulty.values};
        last = faulty.place.behind(
            [&](const auto&... stream) { return both.try_defragment(numbered_policy{number}, stream...); });
        faulty.place.finish();
        return last.ok();
    };
    const auto restore = [&] { faulty.set(); };
    const std::size_t calls = for_each_failing_call(
        faulty.place.backend, run,
        [&](std::size_t) {
            CHECK(last.code() == code);
            CHECK(faulty.figures() == before);
            CHECK(std::ranges::equal(faulty.keys->positions(), faulty.before));
            faulty.check_sound();
            REQUIRE(run());
            faulty.check_sound();
            restore();
        },
        [&] { // the tail could not be unmapped: the rows are in their new place, the pages are counted
            faulty.check_sound();
            const std::size_t rows = faulty.keys->rows();
            REQUIRE(faulty.keys->try_trim());
            REQUIRE(faulty.values->try_trim());
            CHECK(faulty.keys->mapped_bytes() == round_up(bytes{1024} * rows, 4_KiB));
            CHECK(faulty.values->mapped_bytes() == round_up(bytes{1536} * rows, 8_KiB));
            restore();
        },
        code, length);
    faulty.check_sound();
    faulty.keys.reset();
    faulty.values.reset();
    faulty.collect();
    CHECK(faulty.small.stats().in_use == 0_B);
    CHECK(faulty.large.stats().in_use == 0_B);
    CHECK(faulty.place.host.reserved_bytes() == 0_B);
    return calls;
}

template <class Place>
void every_loop(std::vector<slot_type> (&kept)(), const std::vector<std::size_t>& least_calls) {
    for (std::size_t number = 0; number < policies; ++number) {
        for (const errc code : {errc::out_of_memory, errc::native_failure}) {
            for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
                INFO(policy_names[number] << ", " << name(code)
                                          << ", calls in a row: " << static_cast<std::size_t>(length));
                CHECK(loop<Place>(kept(), number, code, length) >= least_calls[number]);
            }
        }
    }
}

} // namespace

TEST_CASE("defragmenting host memory is all or nothing whichever call fails") {
    //                     none, compact, swap, remap, hybrid ×3, incremental
    every_loop<on_host>(scattered, {0, 2, 2, 22, 26, 2, 2, 2});
}

TEST_CASE("defragmenting on a stream is all or nothing whichever call fails") {
    every_loop<on_stream>(scattered, {0, 10, 8, 26, 34, 8, 8, 10});
}

TEST_CASE("rows that slide by less than their number are copied back piece by piece") {
    const std::size_t compact = 1;
    for (const fault_length length : {fault_length::one, fault_length::with_undo})
        CHECK(loop<on_stream>(nearly_all(), compact, errc::native_failure, length) > 2 * 70);
}
