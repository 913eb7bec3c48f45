// SPDX-License-Identifier: Apache-2.0
// On the CUDA device 0 of this machine, if it has one; otherwise reported as skipped.
#include <support/device_main.hpp> // first: it is also Catch2's runner

#include <vtensor/backends/cuda.hpp>

#include <tuple>

namespace vtensor::testing {

struct real_world {
    cuda_driver table = load_cuda_driver().driver;

    [[nodiscard]] const cuda_driver& driver() const noexcept { return table; }
    [[nodiscard]] cuda_options options() const { return {.driver = table}; }
};
using worlds = std::tuple<real_world>;

} // namespace vtensor::testing

#include "behaviour.hpp"

int main(int count, char** arguments) {
    return vtensor::testing::run_on_device<vtensor::cuda_backend>(count, arguments);
}
