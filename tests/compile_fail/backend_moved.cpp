// SPDX-License-Identifier: Apache-2.0
// A backend stays where it is: pools and tensors point at it.
// expect: deleted
#include <vtensor/backends/host.hpp>

#include <utility>

void move(vtensor::host_backend& host) {
#ifdef RIGHT
    auto& other = host;
#else
    auto other = std::move(host);
#endif
    static_cast<void>(other.granularity());
}
