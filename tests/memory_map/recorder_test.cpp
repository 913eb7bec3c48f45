// SPDX-License-Identifier: Apache-2.0
//
// The recorder says what it had no memory for.
#include "recorded.hpp"

#include <support/catch.hpp>
#include <support/failing_new.hpp>

#include <cstddef>

namespace memory_map::testing {
namespace {

using namespace vtensor;

TEST_CASE("a call for which there is no memory is dropped and counted, and the verb does not care") {
    host_backend memory;
    recorder notes;
    traced_host traced{memory, notes};
    std::size_t failures = 0;
    for (std::size_t k = 1; k < 40; ++k) {
        const std::size_t before = notes.entries().size() + notes.dropped();
        vtensor::testing::failing_new::fail(k);
        const auto where = traced.reserve(4_KiB, 0_B);
        failures += vtensor::testing::failing_new::disarm();
        if (where)
            CHECK(traced.release(*where, 4_KiB).ok());
        CHECK(notes.entries().size() + notes.dropped() == before + (where ? std::size_t{2} : std::size_t{1}));
    }
    CHECK(failures > 0);
    CHECK(notes.dropped() > 0);
    CHECK(notes.dropped() < notes.entries().size());
}

} // namespace
} // namespace memory_map::testing
