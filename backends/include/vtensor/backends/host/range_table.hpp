// SPDX-License-Identifier: Apache-2.0
//
// The book-keeping of reserved addresses and of the mappings in them, and the refusals of the contract that
// follow from it. It makes no system call and owns no memory but its own nodes; it is not locked.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <cstddef>
#include <iterator>
#include <map>
#include <new>

namespace vtensor::host {

/// One chunk at one range.
struct mapping {
    std::size_t chunk = 0; ///< which, in the numbering of the owner of the table
    bytes size{};
    access_mode allowed = access_mode::none;
    bool installed = false; ///< the kernel knows of it; until access is first granted only this table does
};

/// One reserved range and what is mapped in it, by address.
struct reserved_range {
    bytes size{};
    std::map<address, mapping> mappings;
};

/// Reservations by address. O(log n) to find one; a range of k mappings costs O(log n + k).
class range_table {
  public:
    using mapping_iterator = std::map<address, mapping>::iterator;

    /// The mappings that exactly cover a range, in ascending order, or why there are none.
    struct covered {
        errc refusal = errc::ok;
        reserved_range* range = nullptr;
        mapping_iterator first{};
        mapping_iterator last{};
    };

    [[nodiscard]] errc add_reservation(address where, bytes size) noexcept {
        try {
            reservations_.emplace(where, reserved_range{size, {}});
            return errc::ok;
        } catch (const std::bad_alloc&) {
            return errc::out_of_memory;
        }
    }

    /// Why the reservation may not be released; `errc::ok` where it may.
    [[nodiscard]] errc check_release(address where, bytes size) const noexcept {
        const auto found = reservations_.find(where);
        if (found == reservations_.end() || found->second.size != size)
            return errc::not_reserved;
        return found->second.mappings.empty() ? errc::ok : errc::still_mapped;
    }

    void remove_reservation(address where) noexcept { reservations_.erase(where); }

    /// The reservation that wholly contains the range, or null.
    [[nodiscard]] reserved_range* find(address where, bytes size) noexcept {
        auto after = reservations_.upper_bound(where);
        if (after == reservations_.begin())
            return nullptr;
        auto& [start, range] = *std::prev(after);
        const bytes offset = where - start;
        return offset <= range.size && size <= range.size - offset ? &range : nullptr;
    }

    /// Enters a mapping where the range is reserved and free; `errc::ok`, or why not.
    [[nodiscard]] errc add_mapping(address where, const mapping& entry) noexcept {
        reserved_range* const range = find(where, entry.size);
        if (range == nullptr)
            return errc::not_reserved;
        auto& mappings = range->mappings;
        const auto after = mappings.lower_bound(where);
        if (after != mappings.end() && after->first < where + entry.size)
            return errc::already_mapped;
        if (after != mappings.begin()) {
            const auto before = std::prev(after);
            if (where < before->first + before->second.size)
                return errc::already_mapped;
        }
        try {
            mappings.emplace_hint(after, where, entry);
            return errc::ok;
        } catch (const std::bad_alloc&) {
            return errc::out_of_memory;
        }
    }

    void remove_mapping(address where, bytes size) noexcept { find(where, size)->mappings.erase(where); }

    /// The whole mappings that cover [where, where + size) without a hole.
    [[nodiscard]] covered cover(address where, bytes size) noexcept {
        reserved_range* const range = find(where, size);
        if (range == nullptr)
            return {errc::not_reserved, nullptr, {}, {}};
        auto& mappings = range->mappings;
        const address end = where + size;
        bool cut = false;
        auto first = mappings.lower_bound(where);
        address reached = where;
        if (first != mappings.begin()) {
            const auto before = std::prev(first);
            const address before_end = before->first + before->second.size;
            if (where < before_end) {
                cut = true;
                reached = before_end;
            }
        }
        auto last = first;
        while (reached < end) {
            if (last == mappings.end() || last->first != reached)
                return {errc::not_mapped, nullptr, {}, {}};
            reached = last->first + last->second.size;
            ++last;
        }
        if (cut || reached != end)
            return {errc::partial_mapping, nullptr, {}, {}};
        return {errc::ok, range, first, last};
    }

    /// Calls `visit(address, size)` for every reservation.
    template <class Visit>
    void for_each_reservation(Visit visit) const {
        for (const auto& [where, range] : reservations_)
            visit(where, range.size);
    }

  private:
    std::map<address, reserved_range> reservations_;
};

} // namespace vtensor::host
