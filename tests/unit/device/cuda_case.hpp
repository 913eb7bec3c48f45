// SPDX-License-Identifier: Apache-2.0
//
// A simulated CUDA machine with a backend on it, which must end with nothing left.
#pragma once

#include "machines.hpp"

#include <vtensor/backends/cuda.hpp>

#include <memory>
#include <utility>

namespace vtensor::testing {

struct cuda_case {
    explicit cuda_case(const machine_options& machine_is = {}, cuda_options wanted = {})
        : machine{machine_is} {
        wanted.driver = machine.driver();
        auto opened = cuda_backend::try_open(wanted);
        INFO(opened.reason);
        REQUIRE(opened);
        memory = std::move(opened.backend);
        machine.clear_log();
    }
    ~cuda_case() {
        memory.reset();
        CHECK(to_string(machine.leaks()) == "nothing");
    }
    simulated_cuda machine;
    std::unique_ptr<cuda_backend> memory;
};

} // namespace vtensor::testing
