// SPDX-License-Identifier: Apache-2.0
// The HIP backend over a simulated runtime keeps the contract: on a runtime that does as documented, and on
// runtimes with the quirks that the table has for them. One quirk is not among them, because it takes away
// what the contract promises: see tests/unit/device/hip_quirks_test.cpp for access over whole runs.
#include <conformance/device_fixtures.hpp>
#include <support/simulated_driver/hip.hpp>

#include <vtensor/backends/hip.hpp>

#include <tuple>

namespace vtensor::conformance {

using testing::simulated_hip;
using testing::simulated::machine_options;

/// Quirks of the table on a runtime that has none of them: caution must not break what works.
struct hip_7_14_setup {
    using machine_type = simulated_hip;
    using backend_type = hip_backend;

    static machine_options machine() { return {.version = hip::abi::version(7, 14)}; }
    static hip_options backend(simulated_hip& on) {
        return {.allow_plain_allocation = false, .driver = on.driver()};
    }
};

struct without_quirks : hip_7_14_setup {
    static hip_options backend(simulated_hip& on) {
        return {.allow_plain_allocation = false, .quirks = device_quirks{}, .driver = on.driver()};
    }
};

/// A runtime with every quirk of the 7.14 row, and the device's second.
struct quirks_of_7_14 : hip_7_14_setup {
    static machine_options machine() {
        return {.devices = 2,
                .version = hip::abi::version(7, 14),
                .minimum_granularity = 4096,
                .recommended_granularity = 4096,
                .quirks = {.unmap_of_several_pins_addresses = true,
                           .working_granularity = std::size_t{2} << 20,
                           .peer_access_after_local_corrupts = true,
                           .reserve_with_alignment_fails = true,
                           .import_reads_address = true,
                           .imported_location_is_wrong = true}};
    }
    static hip_options backend(simulated_hip& on) {
        return {.device = 1,
                .peers = {0},
                .sharing = sharing_wish::descriptor,
                .allow_plain_allocation = false,
                .driver = on.driver()};
    }
};

/// A chunk is made of pieces: mapped, unmapped and given back one by one.
struct pieces : hip_7_14_setup {
    static machine_options machine() {
        return {.version = hip::abi::version(6, 3),
                .minimum_granularity = 4096,
                .recommended_granularity = 4096,
                .quirks = {.unmap_of_several_fails = true,
                           .largest_create = 4096,
                           .reserve_with_alignment_fails = true}};
    }
    static hip_options backend(simulated_hip& on) {
        device_quirks quirks;
        quirks.largest_piece = bytes{4096};
        quirks.least_granularity = bytes{16384};
        quirks.unmap_one_by_one = true;
        quirks.alignment_unreliable = true;
        return {.allow_plain_allocation = false, .quirks = quirks, .driver = on.driver()};
    }
};

/// The oldest runtime that has the verbs reads the properties in another order.
struct hip_5_2 : without_quirks {
    static machine_options machine() { return {.version = hip::abi::version(5, 2)}; }
};

using conformance_fixtures =
    std::tuple<simulated_fixture<hip_7_14_setup>, simulated_fixture<without_quirks>,
               simulated_fixture<quirks_of_7_14>, simulated_fixture<pieces>, simulated_fixture<hip_5_2>>;

} // namespace vtensor::conformance

#include <conformance/conformance.hpp>
