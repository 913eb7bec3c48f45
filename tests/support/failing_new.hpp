// SPDX-License-Identifier: Apache-2.0
//
// A global operator new that can be told to fail, so that running out of memory for book-keeping can be
// tested. It is in a program that is built from failing_new.cpp as well, and in no other.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace vtensor::testing {

/// Makes one allocation of the whole program fail. What runs while it is armed must not allocate for itself:
/// look at the outcome after disarming.
class failing_new {
  public:
    /// The `k`-th allocation from now on fails, counted from 1.
    static void fail(std::size_t k) noexcept {
        failures_ = 0;
        until_failure_ = k;
    }
    /// Nothing fails any more. How many allocations did.
    static std::size_t disarm() noexcept {
        until_failure_ = 0;
        return failures_;
    }

    static void* allocate(std::size_t size, std::size_t alignment = alignof(std::max_align_t)) {
        std::size_t left = until_failure_.load();
        while (left != 0 && !until_failure_.compare_exchange_weak(left, left - 1)) {
        }
        if (left == 1) {
            ++failures_;
            throw std::bad_alloc{};
        }
        const std::size_t whole = (size / alignment + 1) * alignment;
        void* const memory = std::aligned_alloc(alignment, whole);
        if (memory == nullptr)
            throw std::bad_alloc{};
        return memory;
    }

  private:
    static inline std::atomic<std::size_t> until_failure_{0};
    static inline std::atomic<std::size_t> failures_{0};
};

} // namespace vtensor::testing
