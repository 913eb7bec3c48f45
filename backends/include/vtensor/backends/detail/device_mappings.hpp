// SPDX-License-Identifier: Apache-2.0
//
// The reservations and mappings of a device backend: the table that says what may be done, and the driver's
// calls that do it, undone where they fail half-way. It checks no argument but by the table and is not
// locked.
#pragma once

#include <vtensor/backends/detail/device_access.hpp>
#include <vtensor/backends/detail/device_chunks.hpp>
#include <vtensor/backends/detail/device_native.hpp>
#include <vtensor/backends/detail/range_table.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace vtensor::detail {

/// How an operation ended: done, refused by our own books, or with the driver's code.
struct device_outcome {
    errc refusal = errc::ok;
    int native = 0;

    [[nodiscard]] bool ok() const noexcept { return refusal == errc::ok && native == 0; }
};

template <class Api>
class device_mappings {
  public:
    using covered = range_table::covered;

    /// `max_mappings` 0: as many as the driver allows. Throws std::bad_alloc.
    device_mappings(device_native<Api>& native, device_chunks<Api>& chunks, std::vector<int> peers,
                    access_features features, std::size_t max_mappings)
        : native_{native},
          chunks_{chunks},
          access_{native, chunks, native.api().ordinal(), std::move(peers), features},
          max_mappings_{max_mappings == 0 ? std::numeric_limits<std::size_t>::max() : max_mappings} {}

    /// Where reservations are entered, looked up and removed.
    [[nodiscard]] range_table& ranges() noexcept { return ranges_; }

    /// As the driver counts: a chunk of several pieces is several mappings.
    [[nodiscard]] std::size_t count() const noexcept { return count_; }
    [[nodiscard]] bytes mapped() const noexcept { return mapped_; }

    /// Maps the whole chunk; one that is mapped already only where `can_alias`.
    device_outcome map(address where, std::uint32_t chunk, bytes size, bool can_alias) noexcept {
        if (const errc refusal = ranges_.add_mapping(where, size, chunk); refusal != errc::ok)
            return {refusal, 0};
        const covered entered = ranges_.cover(where, size);
        const device_outcome outcome = map_entered(entered, chunk, can_alias);
        if (!outcome.ok()) {
            ranges_.remove(entered, [](std::uint32_t) {});
            return outcome;
        }
        chunks_.add_mapping(chunk);
        count_ += mappings_of(chunk);
        mapped_ += size;
        return {};
    }

    /// 0 or the driver's code. `touched`: the driver unmapped something, even where it was put back.
    int unmap(const covered& found, bool& touched) noexcept {
        if (const int native = take_away(found, touched); native != 0)
            return native;
        touched = true;
        const address start = found.first->start;
        const address end = found.last->end();
        access_.forget(start, end);
        ranges_.remove(found, [this](std::uint32_t chunk) {
            count_ -= mappings_of(chunk);
            chunks_.drop_mapping(chunk);
        });
        mapped_ -= end - start;
        return 0;
    }

    int set_access(const covered& found, access_mode allowed) noexcept { return access_.set(found, allowed); }

    device_outcome set_peer_access(const covered& found, int device, access_mode allowed) noexcept {
        if (device == native_.api().ordinal())
            return {errc::ok, access_.set(found, allowed)};
        device_peers::exceptions fresh;
        for (auto entry = found.first; entry; entry = found.after(entry)) {
            if (!device_peers::prepare(fresh, entry->start, device, allowed))
                return {errc::out_of_memory, 0};
        }
        return {errc::ok, access_.set_peer(found, device, allowed, std::move(fresh))};
    }

    /// At the end: whatever is mapped in the reservation, as far as the driver lets go of it. The table keeps
    /// it.
    void unmap_for_good(address where, bytes size) noexcept {
        auto& mappings = ranges_.find(where, size)->mappings;
        for (auto entry = mappings.first(); entry; entry = mappings.after(entry)) {
            const auto pieces = chunks_.handles(entry->chunk);
            if (entry->installed)
                static_cast<void>(insist([&] { return native_.unmap(entry->start, entry->size, pieces); }));
        }
    }

  private:
    /// Mappings that one mapping of the chunk is to the driver.
    [[nodiscard]] std::size_t mappings_of(std::uint32_t chunk) const noexcept {
        return std::max<std::size_t>(1, chunks_.handles(chunk).size());
    }

    device_outcome map_entered(const covered& entered, std::uint32_t chunk, bool can_alias) noexcept {
        if (mappings_of(chunk) > max_mappings_ - count_)
            return {errc::too_many_mappings, 0};
        if (!can_alias && chunks_.mappings(chunk) != 0)
            return {errc::unsupported, 0};
        const auto pieces = chunks_.handles(chunk);
        const int native = native_.map(entered.first->start, entered.first->size, pieces);
        entered.first->installed = native == 0;
        return {errc::ok, native};
    }

    /// Unmaps for the driver, in one call where it can. Where it fails half-way everything is mapped again
    /// and accessible as it was.
    int take_away(const covered& found, bool& touched) noexcept {
        bool all_there = true;
        for (auto entry = found.first; entry; entry = found.after(entry))
            all_there = all_there && entry->installed;
        if (all_there && !native_.quirks().unmap_one_by_one)
            return native_.unmap_run(found.first->start, found.last->end() - found.first->start);
        for (auto entry = found.first; entry; entry = found.after(entry)) {
            if (!entry->installed)
                continue;
            const int native = native_.unmap(entry->start, entry->size, chunks_.handles(entry->chunk));
            if (native != 0) {
                touched = true;
                put_back(found, entry);
                return native;
            }
            entry->installed = false;
        }
        return 0;
    }
    /// A mapping that cannot be put back stays in the table: it is mapped again when access is next set.
    void put_back(const covered& found, range_table::place end) noexcept {
        for (auto entry = found.first; entry != end; entry = found.after(entry)) {
            const auto pieces = chunks_.handles(entry->chunk);
            entry->installed = insist([&] { return native_.map(entry->start, entry->size, pieces); }) == 0;
            if (!entry->installed)
                entry->allowed = access_mode::none;
        }
        access_.restore(found);
    }

    device_native<Api>& native_;
    device_chunks<Api>& chunks_;
    device_access<Api> access_;
    range_table ranges_{std::numeric_limits<std::size_t>::max()};
    std::size_t max_mappings_;
    std::size_t count_ = 0;
    bytes mapped_{};
};

} // namespace vtensor::detail
