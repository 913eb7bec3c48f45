// SPDX-License-Identifier: Apache-2.0
// A tensor owns its memory and is moved, never copied.
// expect: deleted
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <utility>

using tensor = vtensor::virtual_tensor<float, vtensor::host_backend>;

tensor pass_on(tensor& from) {
#ifdef RIGHT
    return std::move(from);
#else
    return from;
#endif
}
