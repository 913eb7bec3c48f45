// SPDX-License-Identifier: Apache-2.0
// A plain number has no unit.
// expect: (could not convert|cannot convert|no viable conversion|no matching)
#include <vtensor/backends/host.hpp>

auto reserve(vtensor::host_backend& host) {
#ifdef RIGHT
    return host.reserve(vtensor::bytes{4096}, vtensor::bytes{0});
#else
    return host.reserve(4096, 0);
#endif
}
