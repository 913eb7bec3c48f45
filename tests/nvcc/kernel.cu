// SPDX-License-Identifier: Apache-2.0
// Compiled by nvcc, not run: the headers that a CUDA program includes, and a view used inside a kernel, for
// the debug build (with assertions) and the release build.
#include <vtensor/backends/chunk_size.hpp>
#include <vtensor/backends/cuda.hpp>
#include <vtensor/backends/hip.hpp>
#include <vtensor/view.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cuda_runtime_api.h>

namespace {

using vtensor::tensor_view;

/// Every member that kernels call, on both constant and mutable elements.
__global__ void add_rows(tensor_view<float, 3> to, tensor_view<const float, 2> from) {
    const std::size_t row = blockIdx.x;
    const std::size_t column = threadIdx.x;
    if (row >= to.extents[0] || column >= to.extents[2])
        return;
    const tensor_view<float, 2> plane = to[row];
    const tensor_view<float, 3> one = to.rows(row, 1);
    const tensor_view<const float, 2> constant = plane;
    for (std::size_t head = 0; head < to.extents[1]; ++head)
        one(0, head, column) = constant(head, column) + from[row](column);
    if (to.size() == 0)
        to.data[0] = 0.0f;
}

} // namespace

/// The runtime API's stream and event are the backend's.
static_assert(std::is_same_v<vtensor::cuda_backend::stream_type, cudaStream_t>);
static_assert(std::is_same_v<vtensor::cuda_backend::event_type, cudaEvent_t>);

void launch(vtensor::virtual_tensor<float, vtensor::cuda_backend>& tensor, tensor_view<const float, 2> from,
            cudaStream_t stream) {
    add_rows<<<static_cast<unsigned>(tensor.rows()), 32, 0, stream>>>(tensor.view<3>(), from);
}
