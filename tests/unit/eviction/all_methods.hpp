// SPDX-License-Identifier: Apache-2.0
//
// Every named method behind one interface, compiled once.
#pragma once

#include <vtensor/policy/eviction/evidence.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>
#include <vtensor/policy/eviction/workspace.hpp>

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace vtensor::testing {

enum class shared_among { head, layer, model, windows };

struct method_settings {
    std::size_t tokens = 20; ///< the even budget of a head
    std::size_t window = 6;  ///< the recent window, where the method has one
    std::size_t sinks = 3;   ///< likewise
};

struct named_method {
    std::string name;
    shared_among sharing;
    bool guards_only;
    std::function<eviction::evidence_needs()> needs;
    /// Positions of its recent window and its sinks under the settings.
    std::function<std::size_t(const method_settings&)> window, sinks;
    std::function<status(const method_settings&, std::span<const eviction::layer_evidence>,
                         eviction::workspace&, eviction::kept_rows&)>
        choose;
};

[[nodiscard]] const std::vector<named_method>& all_methods();

} // namespace vtensor::testing
