// SPDX-License-Identifier: Apache-2.0
//
// What the tests on a real GPU share: tensors whose rows are pages, on a CUDA backend.
#pragma once

#include "kernels.hpp"

#include <support/catch.hpp>

#include <vtensor/backends/cuda.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>

namespace vtensor::testing {

constexpr bytes gpu_page = 2_MiB;

template <class Backend = cuda_backend, class Growth = growth::exact>
using page_tensor = virtual_tensor<std::uint32_t, Backend, Growth>;
[[nodiscard]] inline row_shape one_page() { return row_shape{gpu_page.count() / sizeof(std::uint32_t)}; }

/// Where a tensor's rows begin, and their bytes.
template <class Tensor>
[[nodiscard]] address start_of(const Tensor& tensor) {
    return address{tensor.data()};
}
template <class Tensor>
[[nodiscard]] bytes bytes_of(const Tensor& tensor) {
    return gpu_page * tensor.rows();
}

/// Whether it becomes so within ten seconds.
template <class Condition>
bool eventually(Condition condition) {
    using namespace std::chrono;
    for (const auto end = steady_clock::now() + seconds{10}; steady_clock::now() < end;
         std::this_thread::sleep_for(milliseconds{5})) {
        if (condition())
            return true;
    }
    return condition();
}

} // namespace vtensor::testing
