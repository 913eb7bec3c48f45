// SPDX-License-Identifier: Apache-2.0
//
// What a host backend is made from, and what it found out about the pages of this machine. Plain data.
#pragma once

#include <vtensor/core/units.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace vtensor {

/// Which pages of the processor a host backend asks for.
enum class host_pages : std::uint8_t {
    system, ///< the base page, 4 KiB on x86-64
    huge,   ///< 2 MiB where the machine grants them; otherwise base pages, and `huge_page_report` says why
};

/// Where the huge pages come from.
enum class huge_page_source : std::uint8_t {
    none,        ///< base pages
    hugetlb,     ///< the pool of /proc/sys/vm/nr_hugepages
    transparent, ///< shared memory, as /sys/kernel/mm/transparent_hugepage/shmem_enabled allows
};

/// Whether huge pages were granted, and why not. `reason` is a literal: it outlives the backend.
struct huge_page_report {
    huge_page_source source = huge_page_source::none;
    std::string_view reason = "not asked for";
};

/// How to make a `host_backend`. The defaults suit tests and small runs.
struct host_options {
    /// The smallest mappable unit. 0 takes the page's own size; otherwise a multiple of it, for instance 2
    /// MiB to behave as a GPU does.
    bytes granularity{};
    /// The most physical memory that may be created at once. 0 takes all that the machine has; what the
    /// system cannot spare at that moment is refused in either case.
    bytes capacity{};
    /// The most mappings that may exist at once. 0 leaves it to the kernel (`vm.max_map_count`).
    std::size_t max_mappings = 0;
    host_pages pages = host_pages::system;
    /// Chunks can be handed to other processes: each is then a memory file of its own, which takes a
    /// descriptor (`ulimit -n`) and a mapping of the kernel a chunk. Without it nothing of this backend can
    /// be handed out.
    bool exportable = false;
};

} // namespace vtensor
