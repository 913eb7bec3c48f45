// SPDX-License-Identifier: Apache-2.0
//
// Every code a backend can fail with, for tests that try them all.
#pragma once

#include <vtensor/core/errc.hpp>

#include <vector>

namespace vtensor::testing {

/// All of `errc` but `ok`.
[[nodiscard]] inline std::vector<errc> every_error_code() {
    std::vector<errc> codes;
    for (unsigned value = 1; value <= static_cast<unsigned>(errc::native_failure); ++value)
        codes.push_back(static_cast<errc>(value));
    return codes;
}

} // namespace vtensor::testing
