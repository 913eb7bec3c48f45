// SPDX-License-Identifier: Apache-2.0
//
// The devices over which the loops of failing calls run.
#pragma once

#include "machines.hpp"

#include <conformance/device_fixtures.hpp>
#include <support/fault_loop.hpp>

#include <tuple>

namespace vtensor::testing {

/// Neighbours are unmapped together, one by one, and piece by piece.
struct cuda_device {
    using machine_type = simulated_cuda;
    using backend_type = cuda_backend;
    static machine_options machine() { return {.devices = 2}; }
    static cuda_options backend(simulated_cuda& on) {
        return {.peers = {1}, .sharing = sharing_wish::descriptor, .driver = on.driver()};
    }
    static constexpr bytes chunk = granule;
};
struct hip_device {
    using machine_type = simulated_hip;
    using backend_type = hip_backend;
    static machine_options machine() {
        return {
            .devices = 2,
            .version = hip::abi::version(7, 14),
            .quirks = {.unmap_of_several_pins_addresses = true, .peer_access_after_local_corrupts = true}};
    }
    static hip_options backend(simulated_hip& on) {
        return {.peers = {1}, .sharing = sharing_wish::descriptor, .driver = on.driver()};
    }
    static constexpr bytes chunk = granule;
};
struct hip_6_device : hip_device {
    static machine_options machine() {
        return {.devices = 2,
                .version = hip::abi::version(6, 3),
                .quirks = {.unmap_of_several_fails = true,
                           .set_access_only_from_start = true,
                           .largest_create = granule.count(),
                           .reserve_with_alignment_fails = true}};
    }
    static constexpr bytes chunk = 3 * granule;
};
using devices = std::tuple<cuda_device, hip_device, hip_6_device>;

} // namespace vtensor::testing
