// SPDX-License-Identifier: Apache-2.0
// A sharing rule answers in pages, and does not throw.
// expect: no matching function|constraints not satisfied
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

struct half {
#ifdef RIGHT
    vtensor::page_count pages(const vtensor::sharing_state& state) const noexcept {
        return vtensor::page_count{state.whole.count() / 2};
    }
#else
    double pages(const vtensor::sharing_state&) const noexcept { return 0.5; }
#endif
};

void use(vtensor::virtual_tensor<float, vtensor::host_backend>& tensor) {
    static_cast<void>(tensor.try_fork(half{}));
}
