// SPDX-License-Identifier: Apache-2.0
// A status that nobody looks at is a failure that nobody sees.
// expect: nodiscard
// expect: (ignoring|unused)
#include <vtensor/backends/host.hpp>

void give_back(vtensor::host_backend& host, vtensor::address where, vtensor::bytes size) {
#ifdef RIGHT
    static_cast<void>(host.release(where, size));
#else
    host.release(where, size);
#endif
}
