// SPDX-License-Identifier: Apache-2.0
// A growth policy answers in pages.
// expect: constraint
// expect: growth_policy
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

struct in_bytes {
#ifdef RIGHT
    vtensor::page_count target(const vtensor::growth_state& state) const noexcept { return state.needed; }
#else
    vtensor::bytes target(const vtensor::growth_state&) const noexcept { return vtensor::bytes{4096}; }
#endif
};

std::size_t size = sizeof(vtensor::virtual_tensor<float, vtensor::host_backend, in_bytes>);
