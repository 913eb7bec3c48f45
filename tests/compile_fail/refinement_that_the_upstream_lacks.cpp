// SPDX-License-Identifier: Apache-2.0
// An adaptor does not offer what its upstream has not got.
// expect: no member named .*record
#include <vtensor/adaptors/counting.hpp>
#include <vtensor/backends/host.hpp>

auto use(vtensor::adaptors::counting<vtensor::host_backend>& counted) {
#ifdef RIGHT
    return counted.can_alias();
#else
    return counted.record(1, 2);
#endif
}
