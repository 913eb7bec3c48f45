// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vtensor/backends/detail/device_native.hpp>
#include <vtensor/backends/detail/device_types.hpp>

#include <cstddef>
#include <vector>

namespace vtensor::detail {

/// A device that is open and has been tried, and how it is to be used: what probing hands to a backend.
template <class Api>
struct opened_device {
    device_native<Api> native;
    device_report report;
    std::vector<int> peers;
    std::size_t max_mappings = 0; ///< 0: as many as the driver allows
    remap_callback on_remap;
};

} // namespace vtensor::detail
