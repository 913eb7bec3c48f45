// SPDX-License-Identifier: Apache-2.0
//
// Plain memory on huge pages where the system has them to give, for what is touched again and again with long
// pauses between: one translation of an address serves two megabytes of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory_resource>
#include <new>

#include <sys/mman.h>

namespace vtensor {

/// Blocks of a quarter of a huge page and more get huge pages of their own, as a wish (`MADV_HUGEPAGE`); the
/// system may give others. Smaller blocks come from operator new. Thread-safe. Throws `std::bad_alloc`. O(1)
/// calls of the system each.
class huge_memory final : public std::pmr::memory_resource {
  public:
    static constexpr std::size_t page = std::size_t{2} << 20;

  private:
    [[nodiscard]] static constexpr bool is_small(std::size_t size, std::size_t alignment) noexcept {
        return size < page / 4 || alignment > page;
    }
    [[nodiscard]] static constexpr std::size_t whole(std::size_t size) noexcept {
        return (size + page - 1) / page * page;
    }

    void* do_allocate(std::size_t size, std::size_t alignment) override {
        if (is_small(size, alignment))
            return std::pmr::new_delete_resource()->allocate(size, alignment);
        if (size > std::numeric_limits<std::size_t>::max() - 2 * page)
            throw std::bad_alloc{};
        // A page more, so that there is a place to begin; what lies around is given back.
        const std::size_t wanted = whole(size);
        void* const got =
            ::mmap(nullptr, wanted + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (got == MAP_FAILED)
            throw std::bad_alloc{};
        auto* const first = static_cast<std::byte*>(got);
        const std::size_t before = (page - reinterpret_cast<std::uintptr_t>(first) % page) % page;
        if (before > 0)
            ::munmap(first, before);
        ::munmap(first + before + wanted, page - before);
        static_cast<void>(::madvise(first + before, wanted, MADV_HUGEPAGE));
        return first + before;
    }
    void do_deallocate(void* block, std::size_t size, std::size_t alignment) override {
        if (is_small(size, alignment))
            return std::pmr::new_delete_resource()->deallocate(block, size, alignment);
        ::munmap(block, whole(size));
    }
    [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
        return dynamic_cast<const huge_memory*>(&other) != nullptr;
    }
};

} // namespace vtensor
