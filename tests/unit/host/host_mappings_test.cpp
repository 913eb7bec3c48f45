// SPDX-License-Identifier: Apache-2.0
//
// The kernel's own ceiling on mappings (vm.max_map_count), really reached: what set_access did before it met
// the ceiling is undone, and the process goes on.
#include "support/catch.hpp"
#include "support/death.hpp"
#include "support/proc_maps.hpp"
#include "support/sanitizers.hpp"

#include <vtensor/backends/host.hpp>

#include <cstddef>
#include <cstdlib>
#include <string>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

std::size_t kernel_ceiling() {
    const std::string text = vtensor::testing::detail::read_whole("/proc/sys/vm/max_map_count");
    return std::strtoull(text.c_str(), nullptr, 10);
}

} // namespace

TEST_CASE("access that would take more mappings than the kernel allows is refused and leaves no trace") {
    const std::size_t ceiling = kernel_ceiling();
    if (any_sanitizer || ceiling > 300'000)
        return; // a sanitizer needs mappings of its own; a ceiling raised for databases takes too long to
                // reach
    REQUIRE(ceiling > 1000);

    // One chunk at many addresses: no two neighbours continue one another in the file, so each is a mapping.
    host_backend backend;
    const std::size_t pages = ceiling + 100;
    const bytes size = pages * 4_KiB;
    const address where = *backend.reserve(size, 0_B);
    const host_chunk chunk = *backend.create(4_KiB);
    for (std::size_t page = 0; page < pages; ++page)
        REQUIRE(backend.map(where + page * 4_KiB, chunk));
    REQUIRE(backend.set_access(where, 40_KiB, vtensor::access_mode::read));
    const range_figures before = kernel_range(where, size);
    REQUIRE(before.memory_file == 40_KiB);

    const status refusal = backend.set_access(where, size, vtensor::access_mode::read_write);
    CHECK(refusal.code() == errc::too_many_mappings);
    CHECK(refusal.error().where == verb::set_access);
    CHECK(refusal.error().native != 0);
    const range_figures after = kernel_range(where, size);
    CHECK(after.memory_file == 40_KiB);
    CHECK(after.accessible == 0_B); // read only, as before
    CHECK(after.reserved == size - 40_KiB);
    CHECK(backend.mapping_count() == pages);
    CHECK_FALSE(reading_faults(where.to_pointer()));
    CHECK(writing_faults(where.to_pointer()));
    CHECK(reading_faults((where + 40_KiB).to_pointer()));

    // Less of it works, and all of it can go.
    const bytes half = pages / 2 * 4_KiB;
    REQUIRE(backend.set_access(where, half, vtensor::access_mode::read_write));
    CHECK(kernel_range(where, size).accessible == half);
    REQUIRE(backend.unmap(where, size));
    CHECK(kernel_range(where, size).memory_file == 0_B);
    REQUIRE(backend.release(where, size));
    CHECK(backend.destroy(chunk));
    CHECK(backend.kernel_physical_bytes() == 0_B);
}
