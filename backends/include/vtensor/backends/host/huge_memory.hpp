// SPDX-License-Identifier: Apache-2.0
//
// Plain memory on huge pages where the system has them to give, for what is touched again and again with long
// pauses between: one translation of an address serves two megabytes of it.
#pragma once

#include <vtensor/backends/host/addresses.hpp>
#include <vtensor/backends/host/huge_pages.hpp>
#include <vtensor/core/units.hpp>

#include <cstddef>
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
    static constexpr std::size_t page = host::huge_page_size.count();

  private:
    [[nodiscard]] static constexpr bool is_small(std::size_t size, std::size_t alignment) noexcept {
        return size < page / 4 || alignment > page;
    }
    [[nodiscard]] static constexpr bytes whole(std::size_t size) noexcept {
        return host::huge_page_size * (size / page + (size % page != 0 ? 1 : 0));
    }

    void* do_allocate(std::size_t size, std::size_t alignment) override {
        if (is_small(size, alignment))
            return std::pmr::new_delete_resource()->allocate(size, alignment);
        if (size > std::numeric_limits<std::size_t>::max() / 2) // whole pages of it could not be counted
            throw std::bad_alloc{};
        const address where = host::reserve_addresses(whole(size), host::huge_page_size);
        if (where == address{})
            throw std::bad_alloc{};
        void* const block = where.to_pointer();
        if (::mprotect(block, whole(size).count(), PROT_READ | PROT_WRITE) != 0) {
            host::release_addresses(where, whole(size));
            throw std::bad_alloc{};
        }
        static_cast<void>(::madvise(block, whole(size).count(), MADV_HUGEPAGE));
        return block;
    }
    void do_deallocate(void* block, std::size_t size, std::size_t alignment) override {
        if (is_small(size, alignment))
            return std::pmr::new_delete_resource()->deallocate(block, size, alignment);
        host::release_addresses(address{block}, whole(size));
    }
    [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
        return dynamic_cast<const huge_memory*>(&other) != nullptr;
    }
};

} // namespace vtensor
