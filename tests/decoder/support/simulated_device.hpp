// SPDX-License-Identifier: Apache-2.0
//
// A simulated CUDA device with a backend on it. At the end everything must have been given back and no rule
// broken.
#pragma once

#include <conformance/device_fixtures.hpp>
#include <support/simulated_driver/cuda.hpp>

#include <vtensor/backends/cuda.hpp>

#include <cstddef>

namespace decoder_test {

struct simulated_device : private vtensor::conformance::clean_machine<vtensor::testing::simulated_cuda> {
    /// `granularity` in bytes. The real one is 2 MiB; less of it lets a small model cross pages.
    explicit simulated_device(std::size_t granularity, vtensor::testing::simulated::execution streams =
                                                           vtensor::testing::simulated::execution::at_once)
        : clean_machine{{.minimum_granularity = granularity,
                         .recommended_granularity = granularity,
                         .streams = streams}},
          memory{{.driver = machine.driver()}} {}

    using clean_machine::machine;
    vtensor::cuda_backend memory;
};

} // namespace decoder_test
