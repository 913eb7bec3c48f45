// SPDX-License-Identifier: Apache-2.0
//
// What the tests on a real GPU let kernels do, without a header of the toolkit: kernels.cu has them. Word i
// of a piece of memory holds a function of i and a seed. Everything throws std::runtime_error where CUDA
// fails.
#pragma once

#include <vtensor/core/units.hpp>

#include <cstddef>

struct CUstream_st;

namespace vtensor::testing {

/// A stream in the primary context of the first device, which is current afterwards.
class gpu_stream {
  public:
    gpu_stream();
    gpu_stream(const gpu_stream&) = delete;
    gpu_stream& operator=(const gpu_stream&) = delete;
    ~gpu_stream();

    [[nodiscard]] CUstream_st* get() const noexcept { return handle_; }
    [[nodiscard]] bool busy() const;
    void wait() const;

  private:
    CUstream_st* handle_ = nullptr;
};

/// Figures in the host's memory that kernels write, and a gate that keeps one running.
class gpu_figures {
  public:
    gpu_figures();
    gpu_figures(const gpu_figures&) = delete;
    gpu_figures& operator=(const gpu_figures&) = delete;
    ~gpu_figures();

    void open() noexcept { *gate_ = 1; }
    /// Waits until a kernel that this gate keeps running has read everything once.
    void wait_for_reader() const;
    /// Words that were not as they had to be, of all kernels so far.
    [[nodiscard]] unsigned long long wrong() const noexcept { return *wrong_; }

    [[nodiscard]] volatile int* gate() const noexcept { return gate_; }
    [[nodiscard]] volatile int* rounds() const noexcept { return rounds_; }
    [[nodiscard]] unsigned long long* wrong_words() const noexcept {
        return const_cast<unsigned long long*>(wrong_);
    }

  private:
    void* memory_ = nullptr;
    volatile int* gate_ = nullptr;
    volatile int* rounds_ = nullptr;
    volatile unsigned long long* wrong_ = nullptr;
};

/// Queues the writing of words [first, first + size / 4) of a piece that begins at `start`.
void gpu_fill(const gpu_stream& on, address start, bytes first, bytes size, unsigned seed);
/// Queues a kernel that counts words that are not as gpu_fill() left them.
void gpu_check(const gpu_stream& on, address start, bytes size, unsigned seed, const gpu_figures& into);
/// The same until the gate is open, and once more after that. It ends by itself after ten seconds.
void gpu_check_until_open(const gpu_stream& on, address start, bytes size, unsigned seed,
                          const gpu_figures& gate);

/// Waits. How many words are wrong.
[[nodiscard]] unsigned long long gpu_wrong_words(const gpu_stream& on, address start, bytes size,
                                                 unsigned seed);

/// Of the first device, as the driver says now.
[[nodiscard]] bytes gpu_free_memory();

} // namespace vtensor::testing
