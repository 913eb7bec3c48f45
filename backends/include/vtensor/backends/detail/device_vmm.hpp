// SPDX-License-Identifier: Apache-2.0
//
// The contract over a driver's virtual memory, the same for CUDA and HIP: refusals by its own book-keeping,
// because a driver answers every mistake with the same code; what a driver gave up half-way undone. It never
// prints, never aborts, and keeps no global state.
//
// `Api` is what device_native.hpp asks for, and: `handle_type`, `stream_type`, `event_type`, a scope type
// `current` that makes the device current for the calling thread, `ordinal()`, `memory()`,
// `can_reach(device)`, `classify(code)`, and the calls that device_streams.hpp and device_sharing.hpp name.
#pragma once

#include <vtensor/backends/detail/device_access.hpp>
#include <vtensor/backends/detail/device_chunks.hpp>
#include <vtensor/backends/detail/device_native.hpp>
#include <vtensor/backends/detail/device_reservations.hpp>
#include <vtensor/backends/detail/device_types.hpp>
#include <vtensor/backends/detail/owning_process.hpp>
#include <vtensor/backends/host/range_table.hpp>
#include <vtensor/core/concepts.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

namespace vtensor::detail {

/// A device that is open and has been tried, and how it is to be used: what probing hands to a backend.
template <class Api>
struct opened_device {
    device_native<Api> native;
    device_report report;
    std::vector<int> peers;
    std::size_t max_mappings = 0; ///< 0: as many as the driver allows
    remap_callback on_remap;
};

/// Verbs may be called from any thread (one mutex: drivers serialise these calls anyway), but not from a
/// child of fork(), which has no device: there they fail with `no_device` and the destructor does nothing.
///
/// Cost: every verb is O(log n) of book-keeping and one call of the driver, `set_access` and `unmap` for any
/// number of mappings; quirks may split that call.
template <class Api>
class device_vmm {
  public:
    using chunk_type = device_chunk;
    using device_type = int;

    device_vmm(const device_vmm&) = delete;
    device_vmm& operator=(const device_vmm&) = delete;

    // ---- the contract ----

    [[nodiscard]] bytes granularity() const noexcept { return report_.granularity; }

    [[nodiscard]] result<address> reserve(bytes size, bytes align) noexcept {
        if (size == bytes{0} || (align != bytes{0} && !std::has_single_bit(align.count())))
            return refuse(errc::invalid_argument, verb::reserve, size);
        if (!is_whole(size))
            return refuse(errc::misaligned, verb::reserve, size);
        align = std::max(align, granularity());
        if (size > most_addresses || align > most_addresses)
            return refuse(errc::out_of_addresses, verb::reserve, size);
        const session use{*this};
        if (!use.ok())
            return use.failure(verb::reserve, size);
        auto room = device_reservations::prepare();
        if (room.empty())
            return refuse(errc::out_of_memory, verb::reserve, size);
        native_range made;
        if (const int native = native_.reserve(size, align, made); native != 0)
            return refuse(no_addresses(native), verb::reserve, size, native);
        if (const errc refusal = ranges_.add_reservation(made.aligned, size); refusal != errc::ok) {
            static_cast<void>(insist([&] { return native_.release(made); }));
            return refuse(refusal, verb::reserve, size);
        }
        reservations_.add(std::move(room), made, size);
        reserved_ += size;
        return made.aligned;
    }

    [[nodiscard]] status release(address where, bytes size) noexcept {
        const session use{*this};
        if (const errc refusal = ranges_.check_release(where, size); refusal != errc::ok)
            return refuse(refusal, verb::release, size);
        if (!use.ok())
            return use.failure(verb::release, size);
        if (const int native = native_.release(reservations_.at(where).range); native != 0)
            return failed(native, verb::release, size);
        ranges_.remove_reservation(where);
        reservations_.remove(where);
        reserved_ -= size;
        return {};
    }

    [[nodiscard]] result<device_chunk> create(bytes size) noexcept {
        if (size == bytes{0})
            return refuse(errc::invalid_argument, verb::create, size);
        if (!is_whole(size))
            return refuse(errc::misaligned, verb::create, size);
        if (report_.memory != bytes{0} && size > report_.memory)
            return refuse(errc::out_of_memory, verb::create, size);
        const session use{*this};
        if (!use.ok())
            return use.failure(verb::create, size);
        int native = 0;
        const auto made = chunks_.create(size, native);
        if (!made && native != 0)
            return failed(native, verb::create, size);
        return made;
    }

    /// Of a mapped chunk the memory goes with its last mapping.
    [[nodiscard]] status destroy(device_chunk chunk) noexcept {
        const session use{*this};
        if (chunks_.size_of(chunk) == bytes{0})
            return refuse(errc::unknown_chunk, verb::destroy, bytes{0});
        if (!use.ok())
            return use.failure(verb::destroy, chunks_.size_of(chunk));
        if (const int native = chunks_.destroy(chunk); native != 0)
            return failed(native, verb::destroy, chunks_.size_of(chunk));
        return {};
    }

    [[nodiscard]] status map(address where, device_chunk chunk) noexcept {
        remap_event event;
        const status outcome = map_locked(where, chunk, event);
        announce(event);
        return outcome;
    }

    [[nodiscard]] status set_access(address where, bytes size, access_mode allowed) noexcept {
        return on_mappings(verb::set_access, where, size, allowed, [&](const auto& found) -> status {
            const int native = access_.set(found, allowed);
            return native == 0 ? status{} : failed(native, verb::set_access, size);
        });
    }

    [[nodiscard]] status unmap(address where, bytes size) noexcept {
        remap_event event;
        const status outcome =
            on_mappings(verb::unmap, where, size, access_mode::none, [&](const auto& found) -> status {
                if (const int native = take_away(found, event); native != 0)
                    return failed(native, verb::unmap, size);
                access_.forget(where, where + size);
                mark_remapped(found.range->start, event);
                ranges_.remove(found, [this](std::uint32_t chunk) {
                    mappings_ -= mappings_of(chunk);
                    chunks_.drop_mapping(chunk);
                });
                mapped_ -= size;
                return {};
            });
        announce(event);
        return outcome;
    }

    // ---- refinements ----

    /// A write through one address is seen through another only by the next kernel.
    [[nodiscard]] bool can_alias() const noexcept { return report_.aliasing.on; }
    [[nodiscard]] bool host_visible() const noexcept { return false; }

    /// Whether that device could be given access to this one's memory. Its own ordinal: yes.
    [[nodiscard]] bool can_reach(int device) const noexcept {
        return device == native_.api().ordinal() ||
               (process_.is_this() && native_.api().exists(device) && native_.api().can_reach(device));
    }
    /// For one device by itself; `set_access` is for the own device and the peers of the options. Refused
    /// first with `no_device` for a device that does not exist, and `unsupported` for one out of reach.
    [[nodiscard]] status set_peer_access(address where, bytes size, access_mode allowed,
                                         int device) noexcept {
        constexpr verb what = verb::set_peer_access;
        if (!native_.api().exists(device))
            return refuse(errc::no_device, what, size);
        if (!can_reach(device))
            return refuse(errc::unsupported, what, size);
        return on_mappings(what, where, size, allowed, [&](const auto& found) -> status {
            if (device == native_.api().ordinal()) {
                const int native = access_.set(found, allowed);
                return native == 0 ? status{} : failed(native, what, size);
            }
            device_peers::exceptions fresh;
            for (auto entry = found.first; entry; entry = found.after(entry)) {
                if (!device_peers::prepare(fresh, entry->start, device, allowed))
                    return refuse(errc::out_of_memory, what, size);
            }
            const int native = access_.set_peer(found, device, allowed, std::move(fresh));
            return native == 0 ? status{} : failed(native, what, size);
        });
    }

    /// How often something was mapped or unmapped in the reservation that holds the address. It also rises
    /// after an unmapping that was undone, because what was registered of the pages is stale all the same.
    [[nodiscard]] result<std::uint64_t> epoch(address where) const noexcept {
        const std::lock_guard lock{mutex_};
        const auto* const range = ranges_.find(where, bytes{1});
        if (range == nullptr)
            return refuse(errc::not_reserved, verb::query, bytes{0});
        return reservations_.at(range->start).epoch;
    }

    // ---- what is there ----

    [[nodiscard]] const device_report& report() const noexcept { return report_; }
    [[nodiscard]] std::string describe() const { return to_string(report_); }

    [[nodiscard]] bytes reserved_bytes() const noexcept { return under_lock(reserved_); }
    /// A chunk mapped twice counts twice.
    [[nodiscard]] bytes mapped_bytes() const noexcept { return under_lock(mapped_); }
    /// As the driver counts: a chunk of several pieces is several mappings.
    [[nodiscard]] std::size_t mapping_count() const noexcept { return under_lock(mappings_); }
    /// Physical bytes created or imported and not given back, by our own count.
    [[nodiscard]] bytes physical_bytes() const noexcept {
        const std::lock_guard lock{mutex_};
        return chunks_.physical();
    }
    /// Chunks that are destroyed and that the driver did not take back; they are offered to it again.
    [[nodiscard]] std::size_t orphaned_chunks() const noexcept {
        const std::lock_guard lock{mutex_};
        return chunks_.orphans();
    }

  protected:
    explicit device_vmm(opened_device<Api>&& opened)
        : native_{std::move(opened.native)},
          report_{std::move(opened.report)},
          on_remap_{std::move(opened.on_remap)},
          max_mappings_{opened.max_mappings == 0 ? std::numeric_limits<std::size_t>::max()
                                                 : opened.max_mappings},
          chunks_{native_},
          access_{native_, chunks_, native_.api().ordinal(), std::move(opened.peers),
                  access_features{report_.read_only.on, report_.revocation.on}} {}

    ~device_vmm() {
        if (!process_.is_this())
            return; // what is open belongs to the parent of this process
        const typename Api::current scope{native_.api(), true};
        reservations_.for_each([this](const device_reservations::entry& held) { unmap_all(held); });
        chunks_.clear();
        reservations_.for_each([this](const device_reservations::entry& held) {
            static_cast<void>(insist([&] { return native_.release(held.range); }));
        });
    }

    /// The lock, and the device current for this thread.
    class session {
      public:
        explicit session(device_vmm& of) noexcept
            : lock_{of.mutex_}, here_{of.process_.is_this()}, scope_{of.native_.api(), here_} {}
        [[nodiscard]] bool ok() const noexcept { return here_ && scope_.failed() == 0; }
        [[nodiscard]] error failure(verb where, bytes size) const noexcept {
            return here_ ? failed(scope_.failed(), where, size) : refuse(errc::no_device, where, size);
        }

      private:
        std::lock_guard<std::mutex> lock_;
        bool here_;
        typename Api::current scope_;
    };

    static error refuse(errc code, verb where, bytes size, int native = 0) noexcept {
        return error{code, where, native, size};
    }
    static error failed(int native, verb where, bytes size) noexcept {
        return refuse(Api::classify(native), where, size, native);
    }
    [[nodiscard]] bool is_whole(bytes size) const noexcept { return size % granularity() == bytes{0}; }

    owning_process process_;
    mutable std::mutex mutex_;
    device_native<Api> native_;
    device_report report_;

  private:
    using covered = host::range_table::covered;

    /// What a processor can address; drivers differ in what they say to more.
    static constexpr bytes most_addresses{std::size_t{1} << 56};

    /// The arguments were checked: what a driver refuses of a size it has no addresses for.
    static errc no_addresses(int native) noexcept {
        const errc code = Api::classify(native);
        return code == errc::no_device || code == errc::unsupported ? code : errc::out_of_addresses;
    }

    template <class Value>
    Value under_lock(const Value& value) const noexcept {
        const std::lock_guard lock{mutex_};
        return value;
    }

    /// Mappings that one mapping of the chunk is to the driver.
    [[nodiscard]] std::size_t mappings_of(std::uint32_t chunk) const noexcept {
        return std::max<std::size_t>(1, chunks_.handles(chunk).size());
    }

    status map_locked(address where, device_chunk chunk, remap_event& event) noexcept {
        const session use{*this};
        const bytes size = chunks_.size_of(chunk);
        if (size == bytes{0})
            return refuse(errc::unknown_chunk, verb::map, bytes{0});
        if (!where.is_multiple_of(granularity()))
            return refuse(errc::misaligned, verb::map, size);
        if (const errc refusal = ranges_.add_mapping(where, size, chunk.index); refusal != errc::ok)
            return refuse(refusal, verb::map, size);
        const covered entered = ranges_.cover(where, size);
        const status outcome = map_entered(entered, chunk.index, use);
        if (!outcome) {
            ranges_.remove(entered, [](std::uint32_t) {});
            return outcome;
        }
        chunks_.add_mapping(chunk.index);
        mappings_ += mappings_of(chunk.index);
        mapped_ += size;
        mark_remapped(entered.range->start, event);
        return {};
    }
    status map_entered(const covered& entered, std::uint32_t chunk, const session& use) noexcept {
        const bytes size = entered.first->size;
        if (mappings_of(chunk) > max_mappings_ - mappings_)
            return refuse(errc::too_many_mappings, verb::map, size);
        if (!can_alias() && chunks_.mappings(chunk) != 0)
            return refuse(errc::unsupported, verb::map, size);
        if (!use.ok())
            return use.failure(verb::map, size);
        const int native = native_.map(entered.first->start, size, chunks_.handles(chunk));
        if (native != 0)
            return failed(native, verb::map, size);
        entered.first->installed = true;
        return {};
    }

    /// The refusals that the verbs on mapped ranges have in common, then `work(covered)`.
    template <class Work>
    status on_mappings(verb what, address where, bytes size, access_mode allowed, Work work) noexcept {
        if (size == bytes{0} || allowed > access_mode::read_write)
            return refuse(errc::invalid_argument, what, size);
        if (!is_whole(size) || !where.is_multiple_of(granularity()))
            return refuse(errc::misaligned, what, size);
        const session use{*this};
        const covered found = ranges_.cover(where, size);
        if (found.refusal != errc::ok)
            return refuse(found.refusal, what, size);
        if (!use.ok())
            return use.failure(what, size);
        return work(found);
    }

    /// Unmaps for the driver, in one call where it can. Where it fails half-way everything is mapped again
    /// and accessible as it was.
    int take_away(const covered& found, remap_event& event) noexcept {
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
                put_back(found, entry, event);
                return native;
            }
            entry->installed = false;
        }
        return 0;
    }
    /// A mapping that cannot be put back stays in the table: it is mapped again when access is next set.
    void put_back(const covered& found, host::range_table::place end, remap_event& event) noexcept {
        for (auto entry = found.first; entry != end; entry = found.after(entry)) {
            const auto pieces = chunks_.handles(entry->chunk);
            entry->installed = insist([&] { return native_.map(entry->start, entry->size, pieces); }) == 0;
            if (!entry->installed)
                entry->allowed = access_mode::none;
        }
        access_.restore(found);
        mark_remapped(found.range->start, event);
    }

    void unmap_all(const device_reservations::entry& held) noexcept {
        auto* const range = ranges_.find(held.range.aligned, held.size);
        for (auto entry = range->mappings.first(); entry; entry = range->mappings.after(entry)) {
            const auto pieces = chunks_.handles(entry->chunk);
            if (entry->installed)
                static_cast<void>(insist([&] { return native_.unmap(entry->start, entry->size, pieces); }));
        }
    }

    void mark_remapped(address reservation, remap_event& event) noexcept {
        auto& held = reservations_.at(reservation);
        event = remap_event{reservation, held.size, ++held.epoch};
    }
    void announce(const remap_event& event) const noexcept {
        if (event.epoch != 0 && on_remap_)
            on_remap_(event);
    }

    remap_callback on_remap_;
    std::size_t max_mappings_;

  protected:
    device_chunks<Api> chunks_;

  private:
    mutable host::range_table ranges_{std::numeric_limits<std::size_t>::max()};
    mutable device_reservations reservations_;
    device_access<Api> access_;
    std::size_t mappings_ = 0;
    bytes reserved_{};
    bytes mapped_{};
};

} // namespace vtensor::detail
