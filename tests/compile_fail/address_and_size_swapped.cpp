// SPDX-License-Identifier: Apache-2.0
// The arguments of a verb cannot be given in the wrong order.
// expect: (could not convert|cannot convert|no viable conversion|no matching)
#include <vtensor/backends/host.hpp>

vtensor::status give_back(vtensor::host_backend& host, vtensor::address where, vtensor::bytes size) {
#ifdef RIGHT
    return host.release(where, size);
#else
    return host.release(size, where);
#endif
}
