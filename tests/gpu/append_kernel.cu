// SPDX-License-Identifier: Apache-2.0
// A small program for a memory checker: kernels append rows to a tensor, read all of it, and cross from page
// to page inside a row, while the tensor grows and shrinks between them. No test framework and no other
// noise. Exit code: 0 all was right, 1 it was not, 77 there is no device. With `--beyond` a kernel reads past
// the mapped pages, which a checker must notice.
#include <vtensor/backends/cuda.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>

using namespace vtensor;

namespace {

constexpr std::size_t heads = 24; // 24 KiB a row: 2 MiB is no multiple of it
constexpr std::size_t width = 256;

__device__ float element(std::size_t row, std::size_t head, std::size_t column) {
    return static_cast<float>((row * 31 + head * 7 + column) % 1021);
}

__global__ void append(tensor_view<float, 3> to, std::size_t first) {
    const std::size_t row = first + blockIdx.x;
    for (std::size_t head = 0; head < to.extents[1]; ++head)
        to(row, head, threadIdx.x) = element(row, head, threadIdx.x);
}

__global__ void count_wrong(tensor_view<const float, 3> from, unsigned* wrong) {
    for (std::size_t row = blockIdx.x; row < from.extents[0]; row += gridDim.x) {
        for (std::size_t head = 0; head < from.extents[1]; ++head) {
            if (from(row, head, threadIdx.x) != element(row, head, threadIdx.x))
                atomicAdd(wrong, 1u);
        }
    }
}

__global__ void read_one(const float* where, float* to) { *to = *where; }

void need(cudaError_t code) {
    if (code != cudaSuccess)
        throw std::runtime_error{cudaGetErrorString(code)};
}

int run(cuda_backend& backend, bool beyond) {
    need(cudaSetDevice(backend.report().ordinal));
    cudaStream_t stream = nullptr;
    need(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    unsigned* wrong = nullptr;
    need(cudaMalloc(&wrong, sizeof(unsigned)));
    need(cudaMemsetAsync(wrong, 0, sizeof(unsigned), stream));
    constexpr std::size_t most = 1024;
    unsigned found = 0;
    {
        chunk_pool<cuda_backend> pool{backend, {.chunk_size = 2_MiB}};
        virtual_tensor<float, cuda_backend> tensor{pool, {heads, width}, most};
        while (tensor.rows() < most) {
            const std::size_t first = tensor.rows();
            const std::size_t fresh = first % 5 == 0 ? 61 : 13;
            tensor.resize(first + fresh < most ? first + fresh : most);
            append<<<static_cast<unsigned>(tensor.rows() - first), width, 0, stream>>>(tensor.view<3>(),
                                                                                       first);
            need(cudaGetLastError());
            const virtual_tensor<float, cuda_backend>& constant = tensor;
            count_wrong<<<64, width, 0, stream>>>(constant.view<3>(), wrong);
            need(cudaGetLastError());
            if (first % 3 == 0 && tensor.rows() < most)
                tensor.resize(tensor.rows() - 7, stream); // under the kernel that reads them
        }
        need(cudaStreamSynchronize(stream));
        if (beyond) {
            tensor.resize(100);
            read_one<<<1, 1, 0, stream>>>(tensor.data() + tensor.mapped_bytes().count() / sizeof(float) + 16,
                                          reinterpret_cast<float*>(wrong));
            need(cudaStreamSynchronize(stream));
        }
        need(cudaMemcpy(&found, wrong, sizeof(found), cudaMemcpyDeviceToHost));
        throw_if_failed(pool.retiring().drain());
    }
    need(cudaFree(wrong));
    need(cudaStreamDestroy(stream));
    std::printf("%zu rows appended and read, %u elements were wrong\n", most, found);
    return found == 0 ? 0 : 1;
}

} // namespace

int main(int count, char** words) {
    const auto opened = cuda_backend::try_open();
    if (!opened) {
        std::printf("skipped: %s\n", opened.reason.c_str());
        return 77;
    }
    try {
        return run(*opened.backend, count > 1 && std::strcmp(words[1], "--beyond") == 0);
    } catch (const std::exception& failed) {
        std::fprintf(stderr, "append_kernel: %s\n", failed.what());
        std::fflush(nullptr);
        return 1;
    }
}
