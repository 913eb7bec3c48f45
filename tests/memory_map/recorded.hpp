// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the memory map share.
#pragma once

#include <memory_model.hpp>
#include <recorder.hpp>

#include <vtensor/adaptors/tracing.hpp>
#include <vtensor/backends/host.hpp>

#include <span>
#include <string>
#include <string_view>

namespace memory_map::testing {

using traced_host = vtensor::adaptors::tracing<vtensor::host_backend, recorder>;

inline memory_model replay(std::span<const entry> entries) {
    memory_model model;
    for (const entry& each : entries) {
        if (const auto* const event = std::get_if<vtensor::adaptors::trace_event>(&each))
            model.apply(*event);
    }
    return model;
}

/// The JSON that a page carries.
inline std::string timeline_in(const std::string& page) {
    constexpr std::string_view before = "\nconst timeline = ";
    constexpr std::string_view behind = ";\n</script>";
    const std::size_t first = page.find(before) + before.size();
    return page.substr(first, page.find(behind, first) - first);
}

} // namespace memory_map::testing
