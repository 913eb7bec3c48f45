// SPDX-License-Identifier: Apache-2.0
// Compiled by nvcc, not run: the headers that a CUDA program includes, and a view used inside a kernel, for
// the debug build (with assertions) and the release build.
#include <vtensor/backends/chunk_size.hpp>
#include <vtensor/backends/cuda.hpp>
#include <vtensor/backends/hip.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/backends/os/unix_listener.hpp>
#include <vtensor/interop/receive_chunks.hpp>
#include <vtensor/interop/send_chunks.hpp>
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

/// What a program does around its kernels is instantiated too.
void use(vtensor::cuda_backend& backend, vtensor::mapper& thread, vtensor::unix_socket& other,
         cudaStream_t stream) {
    using namespace vtensor;
    chunk_pool<cuda_backend, std::mutex> pool{backend};
    virtual_tensor<float, cuda_backend, growth::geometric<3, 2>, eviction::keep_all, std::mutex> tensor{
        pool, {2, 64}, 1024};
    tensor.append(3);
    tensor.resize(1, stream);
    tensor.retire(stream);
    virtual_tensor<float, cuda_backend, growth::look_ahead<4>> ahead{pool, thread, {2, 64}, 1024};
    ahead.append(3);
    device_chunk chunk;
    throw_if_failed(interop::receive_chunks<cuda_backend>(other, backend, std::span{&chunk, 1}, 2_MiB,
                                                          within(std::chrono::seconds{1}))
                        .status());
    throw_if_failed(interop::send_chunks<cuda_backend>(other, backend, std::span{&chunk, 1}, 2_MiB,
                                                       within(std::chrono::seconds{1})));
    static_cast<void>(chunk_pool<cuda_backend>::try_create(backend, {}));
    static_cast<void>(probe_chunk_size(backend, 1_GiB));
}
