// SPDX-License-Identifier: Apache-2.0
// The mapper thread shares the pool: a pool without a mutex will not do.
// expect: give the pool a mutex
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <mutex>

#ifdef RIGHT
using mutex = std::mutex;
#else
using mutex = vtensor::no_mutex;
#endif

using tensor = vtensor::virtual_tensor<float, vtensor::host_backend, vtensor::growth::look_ahead<2>,
                                       vtensor::eviction::keep_all, mutex>;
std::size_t size = sizeof(tensor);
