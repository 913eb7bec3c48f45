// SPDX-License-Identifier: Apache-2.0
// Pages are shared between tensors of one type: rows of one are not rows of the other.
// expect: no matching function|no known conversion
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

using floats = vtensor::virtual_tensor<float, vtensor::host_backend>;
#ifdef RIGHT
using source = floats;
#else
using source = vtensor::virtual_tensor<int, vtensor::host_backend>;
#endif

vtensor::status use(floats& to, source& from) { return to.try_share_prefix_of(from, 10); }
