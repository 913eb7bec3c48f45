// SPDX-License-Identifier: Apache-2.0
//
// What both processes of the test on a GPU know. The words that they exchange are those of tests/sharing.
#pragma once

#include "kernels.hpp"

#include <sharing/shared_set.hpp>

#include <vtensor/backends/cuda.hpp>

#include <array>
#include <cstddef>

namespace vtensor::testing {

inline constexpr std::size_t gpu_shared_count = 16;
inline constexpr bytes gpu_shared_size = 16_MiB;
inline constexpr bytes gpu_shared_total = gpu_shared_size * gpu_shared_count;

using gpu_shared_chunks = std::array<device_chunk, gpu_shared_count>;

[[nodiscard]] inline cuda_options sharing_options() { return {.sharing = sharing_wish::descriptor}; }

/// The chunks side by side at one range of addresses, as long as it lives.
class gpu_shared_set {
  public:
    gpu_shared_set(cuda_backend& backend, const gpu_shared_chunks& chunks)
        : backend_{&backend}, start_{backend.reserve(gpu_shared_total, bytes{0}).value()} {
        for (std::size_t index = 0; index < chunks.size(); ++index)
            throw_if_failed(backend.map(start_ + gpu_shared_size * index, chunks[index]));
        throw_if_failed(backend.set_access(start_, gpu_shared_total, access_mode::read_write));
    }
    gpu_shared_set(const gpu_shared_set&) = delete;
    gpu_shared_set& operator=(const gpu_shared_set&) = delete;
    ~gpu_shared_set() {
        static_cast<void>(backend_->unmap(start_, gpu_shared_total));
        static_cast<void>(backend_->release(start_, gpu_shared_total));
    }

    void fill(const gpu_stream& on, unsigned seed) const {
        gpu_fill(on, start_, bytes{0}, gpu_shared_total, seed);
        on.wait();
    }
    [[nodiscard]] bool holds(const gpu_stream& on, unsigned seed) const {
        return gpu_wrong_words(on, start_, gpu_shared_total, seed) == 0;
    }

  private:
    cuda_backend* backend_;
    address start_;
};

} // namespace vtensor::testing
