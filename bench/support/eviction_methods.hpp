// SPDX-License-Identifier: Apache-2.0
//
// The eviction methods that are compared, by name. All but the random one are compositions of the library.
#pragma once

#include <vtensor/policy/eviction/evidence.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace vtensor::bench {

/// Chooses what stays when every head may keep `rows` rows on average, those of the recent window among them.
/// Throws where the policy refuses. One thread at a time.
using choose_rows = std::function<void(std::span<const eviction::layer_evidence> layers, std::size_t rows,
                                       eviction::kept_rows& kept)>;

struct eviction_method {
    std::string name;
    choose_rows choose;
};

/// All of them, in the order of the tables. A set a thread.
[[nodiscard]] std::vector<eviction_method> all_methods();

/// Those of the names given, in that order; throws where there is no such method.
[[nodiscard]] std::vector<eviction_method> methods_named(std::span<const char* const> names);

} // namespace vtensor::bench
