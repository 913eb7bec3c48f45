// SPDX-License-Identifier: Apache-2.0
//
// What a host backend finds out before it is made: whether its options can be, which pages the machine
// grants, and whether it gives memory files. It takes no memory.
#pragma once

#include <vtensor/backends/host/addresses.hpp>
#include <vtensor/backends/host/chunk_file.hpp>
#include <vtensor/backends/host/huge_pages.hpp>
#include <vtensor/backends/host/memory_file.hpp>
#include <vtensor/backends/host/options.hpp>
#include <vtensor/backends/os/file_descriptor.hpp>
#include <vtensor/core/error.hpp>

#include <bit>
#include <cstddef>
#include <utility>

#include <unistd.h>

namespace vtensor::host {

/// What the options come to on this machine.
struct opened {
    bytes granularity{};
    bytes capacity{};
    found_pages pages;
    file_descriptor shared; ///< the file of all chunks; none where each is to be one of its own
};

/// `misaligned` for a granularity that is no multiple of the page or no power of two, otherwise what
/// `open_memory_file` and `create_chunk_file` refuse.
[[nodiscard]] inline result<opened> open(const host_options& options) noexcept {
    const bytes page = options.pages == host_pages::huge ? huge_page_size : base_page();
    if (options.granularity != bytes{0} &&
        (options.granularity % page != bytes{0} || !std::has_single_bit(options.granularity.count())))
        return error{errc::misaligned, verb::construct, 0, options.granularity};
    const bytes machine = base_page() * static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES));
    opened made{options.granularity == bytes{0} ? page : options.granularity,
                options.capacity == bytes{0} ? machine : options.capacity,
                find_pages(options.pages),
                {}};
    // Where each chunk gets a file of its own, one is made and closed: can this kernel seal such files?
    auto file = options.exportable ? create_chunk_file(made.pages.flags, bytes{0}, verb::construct)
                                   : open_memory_file(made.pages.flags, verb::construct);
    if (!file)
        return file.status();
    if (!options.exportable)
        made.shared = *std::move(file);
    return made;
}

} // namespace vtensor::host
