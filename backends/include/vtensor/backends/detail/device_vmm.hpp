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

#include <vtensor/backends/detail/device_chunks.hpp>
#include <vtensor/backends/detail/device_mappings.hpp>
#include <vtensor/backends/detail/device_native.hpp>
#include <vtensor/backends/detail/device_reservations.hpp>
#include <vtensor/backends/detail/device_session.hpp>
#include <vtensor/backends/detail/device_types.hpp>
#include <vtensor/backends/detail/opened_device.hpp>
#include <vtensor/backends/detail/owning_process.hpp>
#include <vtensor/core/concepts.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

namespace vtensor::detail {

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
        const session use = enter();
        if (!use.ok())
            return use.failure(verb::reserve, size);
        auto room = device_reservations::prepare();
        if (room.empty())
            return refuse(errc::out_of_memory, verb::reserve, size);
        native_range made;
        if (const int native = native_.reserve(size, align, made); native != 0)
            return refuse(no_addresses(native), verb::reserve, size, native);
        if (const errc refusal = mappings_.ranges().add_reservation(made.aligned, size);
            refusal != errc::ok) {
            static_cast<void>(insist([&] { return native_.release(made); }));
            return refuse(refusal, verb::reserve, size);
        }
        reservations_.add(std::move(room), made, size);
        reserved_ += size;
        return made.aligned;
    }

    [[nodiscard]] status release(address where, bytes size) noexcept {
        const session use = enter();
        if (!use.ok())
            return use.failure(verb::release, size);
        if (const errc refusal = mappings_.ranges().check_release(where, size); refusal != errc::ok)
            return refuse(refusal, verb::release, size);
        if (const int native = native_.release(reservations_.at(where).range); native != 0)
            return failed(native, verb::release, size);
        mappings_.ranges().remove_reservation(where);
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
        const session use = enter();
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
        const session use = enter();
        if (!use.ok())
            return use.failure(verb::destroy, bytes{0});
        if (chunks_.size_of(chunk) == bytes{0})
            return refuse(errc::unknown_chunk, verb::destroy, bytes{0});
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
        return on_mappings(verb::set_access, where, size, allowed, [&](const auto& found) {
            return device_outcome{errc::ok, mappings_.set_access(found, allowed)};
        });
    }

    [[nodiscard]] status unmap(address where, bytes size) noexcept {
        remap_event event;
        const status outcome =
            on_mappings(verb::unmap, where, size, access_mode::none, [&](const auto& found) {
                const address reservation = found.range->start;
                bool touched = false;
                const int native = mappings_.unmap(found, touched);
                if (touched)
                    mark_remapped(reservation, event);
                return device_outcome{errc::ok, native};
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
        return on_mappings(what, where, size, allowed, [&](const auto& found) {
            return mappings_.set_peer_access(found, device, allowed);
        });
    }

    /// How often something was mapped or unmapped in the reservation that holds the address. It also rises
    /// after an unmapping that was undone, because what was registered of the pages is stale all the same.
    [[nodiscard]] result<std::uint64_t> epoch(address where) const noexcept {
        if (!process_.is_this())
            return refuse(errc::no_device, verb::query, bytes{0});
        const std::lock_guard lock{mutex_};
        const auto* const range = mappings_.ranges().find(where, bytes{1});
        if (range == nullptr)
            return refuse(errc::not_reserved, verb::query, bytes{0});
        return reservations_.at(range->start).epoch;
    }

    // ---- what is there ----

    [[nodiscard]] const device_report& report() const noexcept { return report_; }
    [[nodiscard]] std::string describe() const { return to_string(report_); }

    [[nodiscard]] bytes reserved_bytes() const noexcept {
        const std::lock_guard lock{mutex_};
        return reserved_;
    }
    /// A chunk mapped twice counts twice.
    [[nodiscard]] bytes mapped_bytes() const noexcept {
        const std::lock_guard lock{mutex_};
        return mappings_.mapped();
    }
    /// As the driver counts: a chunk of several pieces is several mappings.
    [[nodiscard]] std::size_t mapping_count() const noexcept {
        const std::lock_guard lock{mutex_};
        return mappings_.count();
    }
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
          chunks_{native_},
          mappings_{native_, chunks_, std::move(opened.peers),
                    access_features{report_.read_only.on, report_.revocation.on}, opened.max_mappings} {}

    ~device_vmm() {
        if (!process_.is_this())
            return; // what is open belongs to the parent of this process
        const typename Api::current scope{native_.api(), true};
        reservations_.for_each([this](const device_reservations::entry& held) {
            mappings_.unmap_for_good(held.range.aligned, held.size);
        });
        chunks_.clear();
        reservations_.for_each([this](const device_reservations::entry& held) {
            static_cast<void>(insist([&] { return native_.release(held.range); }));
        });
    }

    using session = device_session<Api>;
    [[nodiscard]] session enter() noexcept { return session{mutex_, process_, native_.api()}; }

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
    /// What a processor can address; drivers differ in what they say to more.
    static constexpr bytes most_addresses{std::size_t{1} << 56};

    /// The arguments were checked: what a driver refuses of a size it has no addresses for.
    static errc no_addresses(int native) noexcept {
        const errc code = Api::classify(native);
        return code == errc::no_device || code == errc::unsupported ? code : errc::out_of_addresses;
    }

    status map_locked(address where, device_chunk chunk, remap_event& event) noexcept {
        const session use = enter();
        if (!use.ok())
            return use.failure(verb::map, bytes{0});
        const bytes size = chunks_.size_of(chunk);
        if (size == bytes{0})
            return refuse(errc::unknown_chunk, verb::map, bytes{0});
        if (!where.is_multiple_of(granularity()))
            return refuse(errc::misaligned, verb::map, size);
        const device_outcome outcome = mappings_.map(where, chunk.index, size, can_alias());
        if (outcome.ok())
            mark_remapped(mappings_.ranges().find(where, size)->start, event);
        return ended(outcome, verb::map, size);
    }

    static status ended(const device_outcome& outcome, verb what, bytes size) noexcept {
        if (outcome.refusal != errc::ok)
            return refuse(outcome.refusal, what, size);
        return outcome.native == 0 ? status{} : status{failed(outcome.native, what, size)};
    }

    /// The refusals that the verbs on mapped ranges have in common, then `work(covered)`, which gives a
    /// `device_outcome`.
    template <class Work>
    status on_mappings(verb what, address where, bytes size, access_mode allowed, Work work) noexcept {
        if (size == bytes{0} || allowed > access_mode::read_write)
            return refuse(errc::invalid_argument, what, size);
        if (!is_whole(size) || !where.is_multiple_of(granularity()))
            return refuse(errc::misaligned, what, size);
        const session use = enter();
        if (!use.ok())
            return use.failure(what, size);
        const auto found = mappings_.ranges().cover(where, size);
        if (found.refusal != errc::ok)
            return refuse(found.refusal, what, size);
        return ended(work(found), what, size);
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

  protected:
    device_chunks<Api> chunks_;

  private:
    mutable device_mappings<Api> mappings_;
    mutable device_reservations reservations_;
    bytes reserved_{};
};

} // namespace vtensor::detail
