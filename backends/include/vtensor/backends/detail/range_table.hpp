// SPDX-License-Identifier: Apache-2.0
//
// The book-keeping of reserved addresses and of the mappings in them, and the refusals of the contract that
// follow from it. It makes no system call and owns no memory but its own nodes; it is not locked.
#pragma once

#include <vtensor/backends/detail/mapping_list.hpp>
#include <vtensor/core/concepts.hpp>

#include <boost/intrusive/set.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <new>

namespace vtensor::detail {

/// One reserved range and what is mapped in it.
struct reserved_range
    : boost::intrusive::set_base_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>> {
    reserved_range(address where, bytes length) noexcept : start{where}, size{length} {}

    [[nodiscard]] bool contains(address where, bytes length) const noexcept {
        return where >= start && where - start <= size && length <= size - (where - start);
    }

    const address start;
    const bytes size;
    mapping_list mappings;
};

/// Reservations by address. O(log n) to find one, O(1) to find the same one again; a range of k mappings
/// costs O(log n + k). What removed mappings leave is kept for the next ones: memory is allocated only when
/// there is more to keep than ever before.
class range_table {
  public:
    using place = mapping_list::place;

    /// The mappings that exactly cover a range, from `first` to `last`, or why there are none.
    struct covered {
        errc refusal = errc::ok;
        reserved_range* range = nullptr;
        place first{};
        place last{};

        /// The one after `at`, or nowhere after the last.
        [[nodiscard]] place after(place at) const noexcept {
            return at == last ? place{} : range->mappings.after(at);
        }
    };

    /// Refuses more than `max_mappings` at once.
    explicit range_table(std::size_t max_mappings) noexcept : max_mappings_{max_mappings} {}
    range_table(const range_table&) = delete;
    range_table& operator=(const range_table&) = delete;
    ~range_table() {
        reservations_.clear_and_dispose([](reserved_range* range) { delete range; });
    }

    [[nodiscard]] errc add_reservation(address where, bytes size) noexcept {
        auto* const range = new (std::nothrow) reserved_range{where, size};
        if (range == nullptr)
            return errc::out_of_memory;
        reservations_.insert(*range);
        return errc::ok;
    }

    /// Why the reservation may not be released; `errc::ok` where it may.
    [[nodiscard]] errc check_release(address where, bytes size) const noexcept {
        const auto found = reservations_.find(where);
        if (found == reservations_.end() || found->size != size)
            return errc::not_reserved;
        return found->mappings.empty() ? errc::ok : errc::still_mapped;
    }

    /// Of a reservation that `check_release` lets go.
    void remove_reservation(address where) noexcept {
        recent_ = nullptr;
        reservations_.erase_and_dispose(where, [](reserved_range* range) { delete range; });
    }

    /// The reservation that wholly contains the range, or null.
    [[nodiscard]] reserved_range* find(address where, bytes size) noexcept {
        if (recent_ == nullptr || !recent_->contains(where, bytes{1})) {
            const auto above = reservations_.upper_bound(where);
            if (above == reservations_.begin())
                return nullptr;
            recent_ = &*std::prev(above);
        }
        return recent_->contains(where, size) ? recent_ : nullptr;
    }

    /// Enters a mapping without access where the range is reserved and free; `errc::ok`, or why not.
    [[nodiscard]] errc add_mapping(address where, bytes size, std::uint32_t chunk) noexcept {
        reserved_range* const range = find(where, size);
        if (range == nullptr)
            return errc::not_reserved;
        mapping_list& mappings = range->mappings;
        const place before = mappings.at_or_before(where);
        if (before && where < before->end())
            return errc::already_mapped;
        const place after = before ? mappings.after(before) : mappings.first();
        if (after && after->start < where + size)
            return errc::already_mapped;
        if (count_ >= max_mappings_)
            return errc::too_many_mappings;
        if (!mappings.insert(before, {where, size, chunk, access_mode::none, false}, spares_))
            return errc::out_of_memory;
        ++count_;
        return errc::ok;
    }

    /// The whole mappings that cover [where, where + size) without a hole.
    [[nodiscard]] covered cover(address where, bytes size) noexcept {
        reserved_range* const range = find(where, size);
        if (range == nullptr)
            return {errc::not_reserved};
        const place first = range->mappings.at_or_before(where);
        if (!first || first->end() <= where)
            return {errc::not_mapped};
        const address end = where + size;
        place last = first;
        while (last->end() < end) {
            const place next = range->mappings.after(last);
            if (!next || next->start != last->end())
                return {errc::not_mapped};
            last = next;
        }
        if (first->start != where || last->end() != end)
            return {errc::partial_mapping};
        return {errc::ok, range, first, last};
    }

    /// Removes what `cover` found, calling `visit(chunk)` for each.
    template <class Visit>
    void remove(const covered& found, Visit visit) noexcept {
        for (place at = found.first; at; at = found.after(at)) {
            visit(at->chunk);
            --count_;
        }
        found.range->mappings.erase(found.first, found.last, spares_);
    }

    /// Mappings that exist.
    [[nodiscard]] std::size_t mapping_count() const noexcept { return count_; }

    /// Calls `visit(address, size)` for every reservation.
    template <class Visit>
    void for_each_reservation(Visit visit) const {
        for (const reserved_range& range : reservations_)
            visit(range.start, range.size);
    }

  private:
    struct start_of {
        using type = address;
        [[nodiscard]] address operator()(const reserved_range& range) const noexcept { return range.start; }
    };

    boost::intrusive::set<reserved_range, boost::intrusive::key_of_value<start_of>,
                          boost::intrusive::constant_time_size<false>>
        reservations_;
    reserved_range* recent_ = nullptr; ///< where the last search ended
    spare_blocks spares_;
    std::size_t count_ = 0;
    std::size_t max_mappings_;
};

} // namespace vtensor::detail
