// SPDX-License-Identifier: Apache-2.0
//
// What the kernel is told of the mappings in the table. It is told of one when access to it is first granted:
// until then its addresses are PROT_NONE either way, and mappings whose chunks are neighbours in the file
// cost one call for all of them. Not locked.
#pragma once

#include <vtensor/backends/detail/range_table.hpp>
#include <vtensor/backends/host/addresses.hpp>
#include <vtensor/backends/host/chunk_table.hpp>
#include <vtensor/backends/host/spare_mappings.hpp>
#include <vtensor/core/concepts.hpp>

namespace vtensor::host {

class kernel_mappings {
  public:
    using covered_range = vtensor::detail::range_table::covered;

    /// Gives the mappings the access. 0, or errno after doing a part of it.
    [[nodiscard]] int apply(const covered_range& covered, const chunk_table& chunks,
                            access_mode allowed) const noexcept {
        for (auto entry = covered.first; entry;) {
            const bool installed = entry->installed;
            const auto [file, offset] = chunks.place_of(entry->chunk);
            const address start = entry->start;
            bytes run{0};
            do {
                run += entry->size;
                entry = covered.after(entry);
            } while (entry && entry->installed == installed &&
                     (installed ||
                      chunks.place_of(entry->chunk) == chunk_table::place{file, offset + run.count()}));
            int native = 0;
            if (installed)
                native = protect(start, run, allowed);
            else if (allowed != access_mode::none)
                native = install(start, run, file, offset, allowed);
            if (native != 0)
                return native;
        }
        return 0;
    }

    /// Puts the mappings back to what the table says of them. New ones go first: that makes room where old
    /// ones must be split.
    void restore(const covered_range& covered) noexcept {
        for (auto entry = covered.first; entry; entry = covered.after(entry)) {
            if (!entry->installed)
                static_cast<void>(make_reserved(entry->start, entry->size));
        }
        for (auto entry = covered.first; entry; entry = covered.after(entry)) {
            if (entry->installed)
                static_cast<void>(
                    spares_.with_room([&] { return protect(entry->start, entry->size, entry->allowed); }));
        }
    }

    // What gives memory back or undoes must work also where the process has all the mappings it may have.

    [[nodiscard]] int make_reserved(address where, bytes size) noexcept {
        return spares_.with_room([&] { return host::make_reserved(where, size); });
    }
    [[nodiscard]] int release_addresses(address where, bytes size) noexcept {
        return spares_.with_room([&] { return host::release_addresses(where, size); });
    }

  private:
    spare_mappings spares_;
};

} // namespace vtensor::host
