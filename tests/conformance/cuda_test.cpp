// SPDX-License-Identifier: Apache-2.0
// The contract on a real CUDA device, with the primary context. Without a device the program says so and is
// reported as skipped.
#include <support/device_main.hpp> // first: it is also Catch2's runner

#include <conformance/device_fixtures.hpp>

#include <vtensor/backends/cuda.hpp>

#include <tuple>

namespace vtensor::conformance {

struct cuda_fixture : device_fixture<cuda_backend> {
    cuda_fixture() : device_fixture{cuda_options{}} {}
};
/// Chunks that can be exported are created otherwise.
struct exporting_cuda_fixture : device_fixture<cuda_backend> {
    exporting_cuda_fixture() : device_fixture{cuda_options{.sharing = sharing_wish::descriptor}} {}
};

using conformance_fixtures = std::tuple<cuda_fixture, exporting_cuda_fixture>;

} // namespace vtensor::conformance

#include <conformance/conformance.hpp>

int main(int count, char** arguments) {
    return vtensor::testing::run_on_device<vtensor::cuda_backend>(count, arguments);
}
