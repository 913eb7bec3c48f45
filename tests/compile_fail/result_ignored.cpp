// SPDX-License-Identifier: Apache-2.0
// A result that nobody looks at is a leak or a failure.
// expect: nodiscard
// expect: (ignoring|unused)
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

void grow(vtensor::virtual_tensor<float, vtensor::host_backend>& tensor) {
#ifdef RIGHT
    if (!tensor.try_append(1))
        return;
#else
    tensor.try_append(1);
#endif
}
