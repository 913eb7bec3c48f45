// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

#include <cuda_runtime.h>

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>

namespace vtensor::testing {

namespace {

void need(cudaError_t code, const char* what) {
    if (code != cudaSuccess)
        throw std::runtime_error{std::string{what} + ": " + cudaGetErrorString(code)};
}

constexpr unsigned blocks = 128;
constexpr unsigned threads = 256;

__device__ unsigned word_at(std::size_t index, unsigned seed) {
    unsigned value = static_cast<unsigned>(index) + seed * 0x9e3779b9u;
    value ^= value >> 16;
    value *= 0x7feb352du;
    return value ^ (value >> 15);
}

__global__ void fill(unsigned* words, std::size_t first, std::size_t count, unsigned seed) {
    const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
    for (std::size_t at = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; at < count; at += step)
        words[first + at] = word_at(first + at, seed);
}

__device__ unsigned long long count_wrong(const volatile unsigned* words, std::size_t count, unsigned seed) {
    const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
    unsigned long long wrong = 0;
    for (std::size_t at = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; at < count; at += step)
        wrong += words[at] != word_at(at, seed) ? 1 : 0;
    return wrong;
}

__global__ void check(const unsigned* words, std::size_t count, unsigned seed, unsigned long long* wrong) {
    if (const unsigned long long mine = count_wrong(words, count, seed); mine != 0)
        atomicAdd_system(wrong, mine);
}

__device__ unsigned long long nanoseconds() {
    unsigned long long now = 0;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    return now;
}

/// One block, so that "has read everything once" is known.
__global__ void check_until_open(const unsigned* words, std::size_t count, unsigned seed,
                                 unsigned long long* wrong, const volatile int* gate, volatile int* rounds) {
    constexpr unsigned long long longest = 10'000'000'000;
    __shared__ bool last;
    const unsigned long long begun = nanoseconds();
    unsigned long long mine = 0;
    for (;;) {
        __syncthreads();
        if (threadIdx.x == 0)
            last = *gate != 0 || nanoseconds() - begun > longest;
        __syncthreads();
        const bool once_more = last;
        mine += count_wrong(words, count, seed);
        __syncthreads();
        if (threadIdx.x == 0) {
            *rounds = *rounds + 1;
            __threadfence_system();
        }
        if (once_more)
            break;
    }
    if (mine != 0)
        atomicAdd_system(wrong, mine);
}

} // namespace

gpu_stream::gpu_stream() {
    need(cudaSetDevice(0), "cudaSetDevice");
    need(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}
gpu_stream::~gpu_stream() {
    cudaStreamSynchronize(handle_);
    cudaStreamDestroy(handle_);
}
bool gpu_stream::busy() const {
    const cudaError_t code = cudaStreamQuery(handle_);
    if (code != cudaErrorNotReady)
        need(code, "cudaStreamQuery");
    return code == cudaErrorNotReady;
}
void gpu_stream::wait() const { need(cudaStreamSynchronize(handle_), "cudaStreamSynchronize"); }

gpu_figures::gpu_figures() {
    need(cudaSetDevice(0), "cudaSetDevice");
    constexpr std::size_t size = 4096;
    need(cudaHostAlloc(&memory_, size, cudaHostAllocMapped), "cudaHostAlloc");
    std::memset(memory_, 0, size);
    auto* const start = static_cast<char*>(memory_);
    gate_ = reinterpret_cast<volatile int*>(start);
    rounds_ = reinterpret_cast<volatile int*>(start + 1024);
    wrong_ = reinterpret_cast<volatile unsigned long long*>(start + 2048);
}
gpu_figures::~gpu_figures() {
    open();
    cudaFreeHost(memory_);
}
void gpu_figures::wait_for_reader() const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{10};
    while (*rounds_ == 0) {
        if (std::chrono::steady_clock::now() > end)
            throw std::runtime_error{"the reading kernel does not start"};
        std::this_thread::yield();
    }
}

void gpu_fill(const gpu_stream& on, address start, bytes first, bytes size, unsigned seed) {
    fill<<<blocks, threads, 0, on.get()>>>(start.to_pointer<unsigned>(), first.count() / 4, size.count() / 4,
                                           seed);
    need(cudaGetLastError(), "fill");
}
void gpu_check(const gpu_stream& on, address start, bytes size, unsigned seed, const gpu_figures& into) {
    check<<<blocks, threads, 0, on.get()>>>(start.to_pointer<unsigned>(), size.count() / 4, seed,
                                            into.wrong_words());
    need(cudaGetLastError(), "check");
}
void gpu_check_until_open(const gpu_stream& on, address start, bytes size, unsigned seed,
                          const gpu_figures& gate) {
    check_until_open<<<1, 1024, 0, on.get()>>>(start.to_pointer<unsigned>(), size.count() / 4, seed,
                                               gate.wrong_words(), gate.gate(), gate.rounds());
    need(cudaGetLastError(), "check_until_open");
}
unsigned long long gpu_wrong_words(const gpu_stream& on, address start, bytes size, unsigned seed) {
    const gpu_figures found;
    gpu_check(on, start, size, seed, found);
    on.wait();
    return found.wrong();
}

bytes gpu_free_memory() {
    std::size_t free = 0;
    std::size_t total = 0;
    need(cudaSetDevice(0), "cudaSetDevice");
    need(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return bytes{free};
}

} // namespace vtensor::testing
