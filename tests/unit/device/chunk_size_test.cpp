// SPDX-License-Identifier: Apache-2.0
// Choosing a chunk size by cost: the choice by itself, and the measurement with a clock that the verbs move.
#include "machines.hpp"

#include <support/fault_loop.hpp>
#include <support/reference_backend.hpp>

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/chunk_size.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <vector>

namespace vtensor::testing {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;

/// Time that only the verbs below let pass.
struct verb_clock {
    using duration = nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<verb_clock>;
    static time_point now() noexcept { return time_point{passed}; }
    static inline nanoseconds passed{};
};

/// The model of the contract, with prices.
class priced_backend : public reference_backend {
  public:
    using reference_backend::reference_backend;

    [[nodiscard]] result<reference_chunk> create(bytes size) noexcept {
        verb_clock::passed += microseconds{100};
        return reference_backend::create(size);
    }
    [[nodiscard]] status map(address where, reference_chunk chunk) noexcept {
        verb_clock::passed += microseconds{2};
        return reference_backend::map(where, chunk);
    }
    [[nodiscard]] status set_access(address where, bytes size, access_mode allowed) noexcept {
        verb_clock::passed += microseconds{40};
        return reference_backend::set_access(where, size, allowed);
    }
    [[nodiscard]] status unmap(address where, bytes size) noexcept {
        verb_clock::passed += microseconds{12};
        return reference_backend::unmap(where, size);
    }
    [[nodiscard]] status destroy(reference_chunk chunk) noexcept {
        verb_clock::passed += microseconds{30};
        return reference_backend::destroy(chunk);
    }
};
static_assert(backend<priced_backend>);

constexpr reference_options two_mib{granule, 512_MiB};

TEST_CASE("each verb's cost is that of one chunk, with one set_access and one unmap for the run",
          "[device]") {
    priced_backend memory{two_mib};
    const auto cost = measure_chunk_cost<verb_clock>(memory, 16_MiB, 4);
    REQUIRE(ended(cost) == "ok");
    CHECK(cost->chunk_size == 16_MiB);
    CHECK(cost->create == microseconds{100});
    CHECK(cost->map == microseconds{2});
    CHECK(cost->set_access == microseconds{10});
    CHECK(cost->unmap == microseconds{3});
    CHECK(cost->destroy == microseconds{30});
    CHECK(cost->remap() == microseconds{15});
    CHECK(memory.physical_bytes() == bytes{0});
    CHECK(memory.mapping_count() == 0);
    CHECK(measure_chunk_cost<verb_clock>(memory, 3_MiB).code() == errc::misaligned);
    CHECK(measure_chunk_cost<verb_clock>(memory, granule, 0).code() == errc::invalid_argument);
    CHECK(measure_chunk_cost<verb_clock>(memory, 256_MiB).code() == errc::out_of_memory);
    CHECK(memory.physical_bytes() == bytes{0});
}

TEST_CASE("a measurement that fails leaves nothing", "[device]") {
    reference_backend memory{two_mib};
    adaptors::failing fragile{memory};
    for (const auto length : {fault_length::one, fault_length::with_undo}) {
        const std::size_t failed = for_each_failing_call(
            fragile, [&] { return measure_chunk_cost(fragile, granule, 3).ok(); },
            [&](std::size_t) {
                CHECK(memory.physical_bytes() == bytes{0});
                CHECK(memory.mapping_count() == 0);
            },
            [&] { CHECK(memory.physical_bytes() == bytes{0}); }, errc::native_failure, length);
        CHECK(failed >= 12);
    }
}

TEST_CASE("the cheapest size a byte wins whose half is small against a tensor", "[device]") {
    const auto cost = [](bytes size, int remap) {
        return chunk_cost{size, {}, microseconds{remap}, {}, {}, {}};
    };
    // The proportions of a GB10: 64 MiB cost ten times what 2 MiB cost.
    const std::array costs{cost(2_MiB, 33), cost(16_MiB, 110), cost(64_MiB, 325)};
    CHECK(choose_chunk_size(costs, 1_GiB, 0.125) == 64_MiB);
    CHECK(choose_chunk_size(costs, 256_MiB, 0.125) == 64_MiB); // half of it is just the eighth
    CHECK(choose_chunk_size(costs, 255_MiB, 0.125) == 16_MiB);
    CHECK(choose_chunk_size(costs, 20_MiB, 0.125) == 2_MiB);
    CHECK(choose_chunk_size(costs, 1_MiB, 0.125) == 2_MiB); // none fits: the smallest
    CHECK(choose_chunk_size(costs, bytes{0}, 0) == 2_MiB);
    const std::array growing{cost(64_MiB, 3200), cost(2_MiB, 100), cost(16_MiB, 800)};
    CHECK(choose_chunk_size(growing, 1_TiB, 1) == 2_MiB); // as dear a byte: the smallest of the equal
}

TEST_CASE("probing takes the sizes that fit the granularity and the memory", "[device]") {
    priced_backend memory{two_mib}; // every call costs the same: the largest is the cheapest
    CHECK(probe_chunk_size<verb_clock>(memory, 1_TiB).value() == 64_MiB);
    CHECK(probe_chunk_size<verb_clock>(memory, 100_MiB).value() == 16_MiB);
    priced_backend small{{granule, 100_MiB}};
    CHECK(probe_chunk_size<verb_clock>(small, 1_TiB).value() == 16_MiB); // four of 64 MiB are not there
    priced_backend coarse{{32_MiB, 1_GiB}};
    CHECK(probe_chunk_size<verb_clock>(coarse, 1_TiB).value() == 64_MiB);
    priced_backend none{{granule, granule}};
    CHECK(probe_chunk_size<verb_clock>(none, 1_TiB).code() == errc::out_of_memory);
}

TEST_CASE("probing works on a device and gives everything back", "[device]") {
    simulated_cuda machine;
    {
        cuda_backend memory{{.driver = machine.driver()}};
        CHECK(probe_chunk_size(memory, 1_GiB).ok());
        CHECK(memory.physical_bytes() == bytes{0});
        CHECK(memory.reserved_bytes() == bytes{0});
    }
    CHECK(to_string(machine.leaks()) == "nothing");
}

} // namespace
} // namespace vtensor::testing
