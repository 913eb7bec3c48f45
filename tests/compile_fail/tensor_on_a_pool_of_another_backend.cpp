// SPDX-License-Identifier: Apache-2.0
// A tensor takes its memory from a pool of its own backend.
// expect: (no matching (function|constructor)|constraint|cannot convert)
#include <vtensor/adaptors/counting.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

using counted = vtensor::adaptors::counting<vtensor::host_backend>;

void make(vtensor::chunk_pool<vtensor::host_backend>& pool) {
#ifdef RIGHT
    vtensor::virtual_tensor<float, vtensor::host_backend> made{pool, {8}, 1024};
#else
    vtensor::virtual_tensor<float, counted> made{pool, {8}, 1024};
#endif
}
