// SPDX-License-Identifier: Apache-2.0
// The contract on a real HIP device. Without a device the program says so and is
// reported as skipped.
#include <support/device_main.hpp> // first: it is also Catch2's runner

#include <conformance/device_fixtures.hpp>

#include <vtensor/backends/hip.hpp>

#include <tuple>

namespace vtensor::conformance {

struct hip_fixture : device_fixture<hip_backend> {
    hip_fixture() : device_fixture{hip_options{.allow_plain_allocation = false}} {}
};
using conformance_fixtures = std::tuple<hip_fixture>;

} // namespace vtensor::conformance

#include <conformance/conformance.hpp>

int main(int count, char** arguments) {
    return vtensor::testing::run_on_device<vtensor::hip_backend>(count, arguments);
}
