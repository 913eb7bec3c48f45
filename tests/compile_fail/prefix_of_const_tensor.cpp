// SPDX-License-Identifier: Apache-2.0
// Sharing makes the donor's pages read-only: it is changed.
// expect: no matching function|no matching member function|discards qualifiers
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

using tensor = vtensor::virtual_tensor<float, vtensor::host_backend>;
#ifdef RIGHT
using source = tensor;
#else
using source = const tensor;
#endif

vtensor::status use(tensor& to, source& from) { return to.try_share_prefix_of(from, 10); }
