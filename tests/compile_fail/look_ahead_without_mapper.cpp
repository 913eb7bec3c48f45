// SPDX-License-Identifier: Apache-2.0
// Growth that looks ahead needs the thread that does it.
// expect: (no matching (function|constructor)|constraint)
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <mutex>

using tensor = vtensor::virtual_tensor<float, vtensor::host_backend, vtensor::growth::look_ahead<2>>;

void make(vtensor::chunk_pool<vtensor::host_backend, std::mutex>& pool, vtensor::mapper& thread) {
#ifdef RIGHT
    tensor made{pool, thread, {8}, 1024};
#else
    tensor made{pool, {8}, 1024};
    static_cast<void>(thread);
#endif
}
