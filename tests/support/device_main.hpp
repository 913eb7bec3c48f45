// SPDX-License-Identifier: Apache-2.0
//
// The main() of test programs that need a real device: Catch2's where there is one, and otherwise a line that
// says why not, and an exit code that CTest counts as skipped. Included once, in the file with main(), in
// place of support/catch.hpp before anything else of Catch2.
#pragma once

#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_RUNNER
#endif
#include <support/catch.hpp>

#include <cstdlib>
#include <iostream>

namespace vtensor::testing {

inline constexpr int skipped_exit_code = 77;

/// With VTENSOR_REQUIRE_DEVICE set a missing device is a failure.
template <class Backend>
int run_on_device(int count, char** arguments) {
    const auto opened = Backend::try_open();
    if (!opened) {
        std::cout << "skipped: " << opened.reason << '\n';
        return std::getenv("VTENSOR_REQUIRE_DEVICE") != nullptr ? EXIT_FAILURE : skipped_exit_code;
    }
    std::cout << opened.backend->describe() << '\n';
    return Catch::Session{}.run(count, arguments);
}

} // namespace vtensor::testing
