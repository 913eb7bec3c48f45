// SPDX-License-Identifier: Apache-2.0
//
// Addresses of the simulation: reservations and the mappings in them, over mmap. What may not be touched is
// PROT_NONE, so that touching it is a fault and no return code. Independent of the library's own
// book-keeping, for it judges it. Nothing here is synchronised: the machine's lock is held.
#pragma once

#include <support/simulated_driver/physical_memory.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <sys/mman.h>

namespace vtensor::testing::simulated {

/// What devices may do with a mapping; the numbers of both drivers.
inline constexpr int may_nothing = 0;
inline constexpr int may_read = 1;
inline constexpr int may_write = 3;

/// One device's wish in a set-access call.
struct access_wish {
    int device = 0;
    int flags = may_nothing;
};

struct mapping {
    std::size_t size = 0;
    std::shared_ptr<memory> behind;
    std::uint64_t handle = 0;    ///< that it was mapped by
    std::map<int, int> access{}; ///< device → flags
    bool corrupt = false;        ///< by a quirk: nobody can use it any more

    /// What the processor, which stands for all devices, may do.
    [[nodiscard]] int processor_flags() const noexcept {
        int flags = may_nothing;
        for (const auto& [device, granted] : access)
            flags |= granted;
        return corrupt ? may_nothing : flags;
    }
};

struct reservation {
    std::size_t size = 0;
    std::map<std::uintptr_t, mapping> mappings{};
    bool plain = false;                          ///< memory of mem_alloc, closed to the virtual-memory verbs
    bool pinned = false;                         ///< by a quirk: can never be freed
    std::vector<std::shared_ptr<memory>> kept{}; ///< by a quirk: unmapped, and not returned yet

    [[nodiscard]] static std::uintptr_t end_of(const std::pair<const std::uintptr_t, mapping>& one) noexcept {
        return one.first + one.second.size;
    }
};

class address_space {
  public:
    address_space() = default;
    address_space(const address_space&) = delete;
    address_space& operator=(const address_space&) = delete;
    ~address_space() {
        for (const auto& [where, one] : reservations_)
            ::munmap(reinterpret_cast<void*>(where), one.size);
    }

    /// The address, or 0 where there is none of that alignment (a power of two, at least a page).
    std::uintptr_t reserve(std::size_t size, std::size_t align) {
        if (size > SIZE_MAX - align)
            return 0;
        void* const got =
            ::mmap(nullptr, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (got == MAP_FAILED)
            return 0;
        const auto start = reinterpret_cast<std::uintptr_t>(got);
        const std::uintptr_t where = (start + align - 1) / align * align;
        if (where != start)
            ::munmap(got, where - start);
        if (const std::size_t behind = align - (where - start); behind != 0)
            ::munmap(reinterpret_cast<void*>(where + size), behind);
        try {
            reservations_.emplace(where, reservation{size});
        } catch (...) {
            ::munmap(reinterpret_cast<void*>(where), size);
            throw;
        }
        return where;
    }

    void free(std::map<std::uintptr_t, reservation>::iterator gone) {
        ::munmap(reinterpret_cast<void*>(gone->first), gone->second.size);
        reservations_.erase(gone);
    }

    /// The reservation that [where, where + size) lies in; end() where in none.
    [[nodiscard]] auto find(std::uintptr_t where, std::size_t size) noexcept {
        auto found = reservations_.upper_bound(where);
        if (found == reservations_.begin())
            return reservations_.end();
        --found;
        const std::uintptr_t inside = where - found->first;
        return inside < found->second.size && size <= found->second.size - inside ? found
                                                                                  : reservations_.end();
    }
    [[nodiscard]] auto find_exactly(std::uintptr_t where) noexcept { return reservations_.find(where); }
    [[nodiscard]] auto none() noexcept { return reservations_.end(); }
    [[nodiscard]] const std::map<std::uintptr_t, reservation>& reservations() const noexcept {
        return reservations_;
    }

    /// True where a mapping lies in the range.
    [[nodiscard]] static bool any_mapped(const reservation& in, std::uintptr_t where,
                                         std::size_t size) noexcept {
        const auto after = in.mappings.lower_bound(where + size);
        return after != in.mappings.begin() && reservation::end_of(*std::prev(after)) > where;
    }

    using mappings =
        std::pair<std::map<std::uintptr_t, mapping>::iterator, std::map<std::uintptr_t, mapping>::iterator>;
    /// The mappings that the range consists of, whole and without a hole; an empty pair where it does not.
    [[nodiscard]] static mappings whole_mappings(reservation& in, std::uintptr_t where,
                                                 std::size_t size) noexcept {
        const mappings nothing{in.mappings.end(), in.mappings.end()};
        const auto first = in.mappings.find(where);
        auto last = first;
        std::uintptr_t next = where;
        for (; last != in.mappings.end() && last->first == next && next < where + size; ++last)
            next = reservation::end_of(*last);
        return next == where + size && size != 0 ? mappings{first, last} : nothing;
    }
    /// The mapping that holds the address, or null.
    [[nodiscard]] const mapping* mapping_at(std::uintptr_t where) noexcept {
        const auto in = find(where, 1);
        if (in == none())
            return nullptr;
        const auto after = in->second.mappings.upper_bound(where);
        if (after == in->second.mappings.begin())
            return nullptr;
        const auto& one = *std::prev(after);
        return where < reservation::end_of(one) ? &one.second : nullptr;
    }

    /// False where Linux refuses; nothing is mapped then. The range is free and inside the reservation.
    static bool map(reservation& in, std::uintptr_t where, std::size_t size,
                    const std::shared_ptr<memory>& behind, std::uint64_t handle) {
        const auto made = in.mappings.emplace(where, mapping{size, behind, handle}).first;
        if (back(where, made->second))
            return true;
        in.mappings.erase(made);
        return false;
    }
    /// Puts the mapping's memory at its addresses, not accessible yet. False where Linux refuses.
    static bool back(std::uintptr_t where, const mapping& one) noexcept {
        return ::mmap(reinterpret_cast<void*>(where), one.size, PROT_NONE, MAP_SHARED | MAP_FIXED,
                      one.behind->file, static_cast<off_t>(one.behind->offset)) != MAP_FAILED;
    }

    /// False where Linux refuses; the mapping stays then.
    static bool unmap(reservation& in, std::map<std::uintptr_t, mapping>::iterator gone) {
        if (::mmap(reinterpret_cast<void*>(gone->first), gone->second.size, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
            return false;
        in.mappings.erase(gone);
        return true;
    }

    /// Makes the processor's access what the mappings say. False where Linux refuses.
    static bool protect(const mappings& run) noexcept {
        for (auto at = run.first; at != run.second;) {
            const int flags = at->second.processor_flags();
            const std::uintptr_t start = at->first;
            std::uintptr_t end = start;
            for (; at != run.second && at->second.processor_flags() == flags; ++at)
                end = reservation::end_of(*at);
            const int protection = flags == may_write  ? PROT_READ | PROT_WRITE
                                   : flags == may_read ? PROT_READ
                                                       : PROT_NONE;
            if (::mprotect(reinterpret_cast<void*>(start), end - start, protection) != 0)
                return false;
        }
        return true;
    }

    /// Whether a device may do that with all of the range. Also true where no byte of it is an address of the
    /// simulation: host memory.
    [[nodiscard]] bool may(int device, std::uintptr_t where, std::size_t size, int flags) noexcept {
        for (std::uintptr_t at = where; at < where + size;) {
            const auto in = find(at, 1);
            if (in == none()) {
                const auto next = reservations_.upper_bound(at);
                at = next == none() ? where + size : next->first;
                continue;
            }
            const auto after = in->second.mappings.upper_bound(at);
            if (after == in->second.mappings.begin() || reservation::end_of(*std::prev(after)) <= at)
                return false;
            const mapping& one = std::prev(after)->second;
            const auto granted = one.access.find(device);
            if (one.corrupt || granted == one.access.end() || (granted->second & flags) != flags)
                return false;
            at = reservation::end_of(*std::prev(after));
        }
        return true;
    }

    [[nodiscard]] std::size_t reserved_bytes() const noexcept {
        std::size_t sum = 0;
        for (const auto& [where, one] : reservations_)
            sum += one.size;
        return sum;
    }
    [[nodiscard]] std::size_t mapping_count() const noexcept {
        std::size_t sum = 0;
        for (const auto& [where, one] : reservations_)
            sum += one.mappings.size();
        return sum;
    }

  private:
    std::map<std::uintptr_t, reservation> reservations_;
};

} // namespace vtensor::testing::simulated
