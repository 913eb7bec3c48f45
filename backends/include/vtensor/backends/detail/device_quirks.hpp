// SPDX-License-Identifier: Apache-2.0
//
// The ways in which a driver differs from what its manual says, as switches that the mapping code obeys.
// Which driver has which is written in hip/quirks.hpp; CUDA has none.
#pragma once

#include <vtensor/core/units.hpp>

namespace vtensor {

/// All off: a driver that does what its manual says.
struct device_quirks {
    bytes least_granularity{};         ///< what the driver calls its granularity is too small; 0: it is right
    bytes largest_piece{};             ///< larger chunks are made of pieces of this size; 0: of one piece
    bool alignment_unreliable = false; ///< reserving with an alignment fails where reserving without works
    bool unmap_one_by_one = false;     ///< one call takes away one mapping only
    bool access_over_whole_run = false; ///< access is set for all neighbouring mappings or for none
    bool local_access_last = false;     ///< the own device's access is set after that of the peers
    bool memory_returns_with_addresses =
        false; ///< freed memory is back only when its reservation is; reported

    friend constexpr bool operator==(const device_quirks&, const device_quirks&) noexcept = default;
};

} // namespace vtensor
