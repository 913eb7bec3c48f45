// SPDX-License-Identifier: Apache-2.0
//
// A few mappings kept only to be given up. Once a process has as many mappings as the kernel allows
// (vm.max_map_count), the kernel refuses even the call that would take mappings away; giving up a spare one
// first makes that call possible. They hold no memory, and nobody reads or writes them.
#pragma once

#include <cerrno>
#include <cstddef>

#include <sys/mman.h>
#include <unistd.h>

namespace vtensor::host {

/// Used by one thread at a time. Neither copied nor moved.
class spare_mappings {
  public:
    spare_mappings() noexcept { refill(); }
    spare_mappings(const spare_mappings&) = delete;
    spare_mappings& operator=(const spare_mappings&) = delete;
    ~spare_mappings() { give_up(); }

    /// Runs `call`, which returns 0 or an errno; where the kernel has no mapping left for it, once more with
    /// the spare ones given up for as long.
    template <class Call>
    int with_room(Call call) noexcept {
        const int failed = call();
        return failed == ENOMEM ? without_spares(call) : failed;
    }

  private:
    template <class Call>
    int without_spares(Call& call) noexcept {
        give_up();
        const int failed = call();
        refill();
        return failed;
    }

    /// Unmapping a part of a mapping leaves three: two more than before.
    static constexpr std::size_t count = 4;

    static std::size_t page() noexcept { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

    /// As many as the kernel allows. Shared ones: the kernel never merges them with their neighbours.
    void refill() noexcept {
        for (void*& spare : spares_) {
            if (spare != nullptr)
                continue;
            void* const got = ::mmap(nullptr, page(), PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            spare = got == MAP_FAILED ? nullptr : got;
        }
    }
    void give_up() noexcept {
        for (void*& spare : spares_) {
            if (spare != nullptr)
                ::munmap(spare, page());
            spare = nullptr;
        }
    }

    void* spares_[count] = {};
};

} // namespace vtensor::host
