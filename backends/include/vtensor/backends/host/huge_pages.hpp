// SPDX-License-Identifier: Apache-2.0
//
// Finds out whether this machine grants huge pages for shared memory, by trying: settings alone do not tell.
// It changes no setting of the machine.
#pragma once

#include <vtensor/backends/host/memory_file.hpp>
#include <vtensor/backends/host/options.hpp>
#include <vtensor/core/error.hpp>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include <linux/memfd.h>
#include <sys/mman.h>

namespace vtensor::host {

/// The size that is meant by "huge" here: one entry of the second level of the page table.
inline constexpr bytes huge_page_size = 2_MiB;

/// How to open memory files, and what was found about their pages.
struct found_pages {
    unsigned flags = 0; ///< for memfd_create
    huge_page_report report;
};

namespace detail {

inline constexpr unsigned hugetlb_2mib = MFD_HUGETLB | MFD_HUGE_2MB;

/// True where the kernel maps the 2 MiB at `where` by one entry: the line ShmemPmdMapped of /proc/self/smaps.
[[nodiscard]] inline bool is_huge_mapped(const void* where) noexcept {
    std::FILE* const smaps = std::fopen("/proc/self/smaps", "re");
    if (smaps == nullptr)
        return false;
    char line[512];
    bool inside = false;
    bool huge = false;
    const auto wanted = reinterpret_cast<std::uintptr_t>(where);
    while (std::fgets(line, sizeof line, smaps) != nullptr) {
        unsigned long first = 0;
        unsigned long last = 0;
        unsigned long kib = 0;
        if (std::sscanf(line, "%lx-%lx ", &first, &last) == 2)
            inside = first <= wanted && wanted < last;
        else if (inside && std::sscanf(line, "ShmemPmdMapped: %lu", &kib) == 1)
            huge = kib != 0;
    }
    std::fclose(smaps);
    return huge;
}

/// Fills 2 MiB of a memory file, maps it aligned, touches it, and asks the kernel how it did so.
[[nodiscard]] inline bool transparent_huge_pages_work() noexcept {
    const auto file = open_memory_file(0, verb::construct);
    if (!file || fill_range(*file, 0, huge_page_size) != 0)
        return false;
    const std::size_t size = huge_page_size.count();
    void* const window =
        ::mmap(nullptr, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (window == MAP_FAILED)
        return false;
    const auto aligned = (reinterpret_cast<std::uintptr_t>(window) + size - 1) / size * size;
    void* const target = address{aligned}.to_pointer();
    bool huge = false;
    if (::mmap(target, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file->number(), 0) !=
        MAP_FAILED) {
        *static_cast<volatile char*>(target) = 1;
        huge = is_huge_mapped(target);
    }
    ::munmap(window, 2 * size);
    return huge;
}

/// True where the pool of huge pages has at least one to give now.
[[nodiscard]] inline bool hugetlb_works() noexcept {
    const auto file = open_memory_file(hugetlb_2mib, verb::construct);
    return file && fill_range(*file, 0, huge_page_size) == 0;
}

} // namespace detail

/// What the machine grants of `wanted`: base pages and a reason where it has no huge ones.
[[nodiscard]] inline found_pages find_pages(host_pages wanted) noexcept {
    huge_page_report report;
    unsigned flags = 0;
    if (wanted == host_pages::huge) {
        if (detail::hugetlb_works()) {
            flags = detail::hugetlb_2mib;
            report = {huge_page_source::hugetlb, "granted from the pool of /proc/sys/vm/nr_hugepages"};
        } else if (detail::transparent_huge_pages_work()) {
            report = {huge_page_source::transparent, "granted by transparent huge pages for shared memory"};
        } else {
            report = {
                huge_page_source::none,
                "not granted: the pool is empty (raise /proc/sys/vm/nr_hugepages) and shared memory gets "
                "none "
                "(write 'always' or 'within_size' to /sys/kernel/mm/transparent_hugepage/shmem_enabled)"};
        }
    }
    return {flags, report};
}

} // namespace vtensor::host
