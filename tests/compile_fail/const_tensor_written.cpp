// SPDX-License-Identifier: Apache-2.0
// A constant tensor gives a view of constant elements.
// expect: (read-only|const-qualified|cannot assign|not assignable|without being able to modify)
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

void write(vtensor::virtual_tensor<float, vtensor::host_backend>& tensor) {
#ifdef RIGHT
    auto& seen = tensor;
#else
    const auto& seen = tensor;
#endif
    seen.view()(0, 0) = 1.0f;
}
