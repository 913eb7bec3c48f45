// SPDX-License-Identifier: Apache-2.0
//
// The memory managers that are compared, in the order of the tables.
#pragma once

#include "memory_manager.hpp"
#include "paged_blocks.hpp"
#include "static_ranges.hpp"
#include "vtensor_side.hpp"

#include <array>
#include <memory>
#include <string_view>

namespace vtensor::bench {

struct compared_manager {
    std::string_view name; ///< what `name()` says
    std::unique_ptr<memory_manager_under_test> (*make)(const manager_options&);
};

template <class Manager>
[[nodiscard]] std::unique_ptr<memory_manager_under_test> make_manager(const manager_options& options) {
    return std::make_unique<Manager>(options);
}

inline constexpr std::array compared_managers{
    compared_manager{"static ranges", make_manager<static_ranges>},
    compared_manager{"blocks of 16", make_manager<paged_blocks>},
    compared_manager{"vtensor", make_manager<vtensor_side<vtensor_features{true, true}>>},
    compared_manager{"vtensor, no look-ahead", make_manager<vtensor_side<vtensor_features{false, true}>>},
    compared_manager{"vtensor, eager release", make_manager<vtensor_side<vtensor_features{true, false}>>},
};

} // namespace vtensor::bench
