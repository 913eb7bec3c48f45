// SPDX-License-Identifier: Apache-2.0
// A backend without streams has nothing for a tensor to retire behind.
// expect: no matching function|constraints not satisfied
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

void use(vtensor::virtual_tensor<float, vtensor::host_backend>& tensor) {
#ifdef RIGHT
    tensor.resize(1);
#else
    tensor.resize(1, {});
#endif
}
