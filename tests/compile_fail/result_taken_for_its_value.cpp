// SPDX-License-Identifier: Apache-2.0
// A result is not its value: the failure comes first.
// expect: (could not convert|cannot convert|no viable conversion)
#include <vtensor/backends/host.hpp>

vtensor::address reserve(vtensor::host_backend& host) {
#ifdef RIGHT
    return host.reserve(vtensor::bytes{4096}, vtensor::bytes{0}).value();
#else
    return host.reserve(vtensor::bytes{4096}, vtensor::bytes{0});
#endif
}
