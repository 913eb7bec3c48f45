// SPDX-License-Identifier: Apache-2.0
// A pool is neither copied nor moved: tensors point at it.
// expect: deleted
#include <vtensor/backends/host.hpp>
#include <vtensor/memory/chunk_pool.hpp>

using pool = vtensor::chunk_pool<vtensor::host_backend>;

std::size_t use(pool& shared) {
#ifdef RIGHT
    pool& mine = shared;
#else
    pool mine = shared;
#endif
    return mine.chunk_size().count();
}
