// SPDX-License-Identifier: Apache-2.0
//
// Access to mappings: for the device that owns the memory, for the peers named at construction with it, and
// for one peer by itself. A call that the driver gives up half-way is undone by what the tables say. Checks
// nothing and is not locked. Operations return 0 or the driver's code.
#pragma once

#include <vtensor/backends/detail/device_chunks.hpp>
#include <vtensor/backends/detail/device_peers.hpp>
#include <vtensor/backends/detail/range_table.hpp>

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::detail {

/// What the driver was seen to do when asked for less than reading and writing.
struct access_features {
    bool read_only = true;  ///< reading alone can be granted; otherwise writing is granted with it
    bool revocation = true; ///< access can be taken away; otherwise the chunk is mapped anew
};

template <class Api>
class device_access {
  public:
    using covered = range_table::covered;
    using place = range_table::place;

    /// Throws std::bad_alloc.
    device_access(device_native<Api>& native, device_chunks<Api>& chunks, int device, std::vector<int> peers,
                  access_features features)
        : native_{native}, chunks_{chunks}, peers_{std::move(peers)}, features_{features}, own_{device} {
        grants_.reserve(1 + peers_.configured().size());
    }

    [[nodiscard]] const device_peers& peers() const noexcept { return peers_; }

    /// For the own device and the configured peers: one call of the driver for all of the mappings.
    int set(const covered& found, access_mode allowed) noexcept {
        if (const int failed = install(found); failed != 0)
            return failed;
        if (const int failed = tell(found, allowed); failed != 0) {
            restore(found);
            return failed;
        }
        for (place entry = found.first; entry; entry = found.after(entry))
            entry->allowed = allowed;
        peers_.forget(found.first->start, found.last->end(), true);
        return 0;
    }

    /// For one other device. `fresh` holds an entry for each of the mappings, prepared by the caller.
    int set_peer(const covered& found, int device, access_mode allowed,
                 device_peers::exceptions&& fresh) noexcept {
        if (const int failed = install(found); failed != 0)
            return failed;
        if (const int failed = tell_peer_in_order(found, device, allowed); failed != 0) {
            restore(found);
            return failed;
        }
        peers_.enter(std::move(fresh));
        return 0;
    }

    /// Mappings that the driver lost in an undo that failed are mapped again.
    int install(const covered& found) noexcept {
        for (place entry = found.first; entry; entry = found.after(entry)) {
            if (entry->installed)
                continue;
            if (const int failed = native_.map(entry->start, entry->size, chunks_.handles(entry->chunk));
                failed != 0)
                return failed;
            entry->installed = true;
        }
        return 0;
    }

    /// Tells the driver again what the tables say.
    void restore(const covered& found) noexcept {
        for_each_run(found, [&](const covered& run) {
            static_cast<void>(insist([&] { return tell(run, run.first->allowed); }));
        });
        for (place entry = found.first; entry; entry = found.after(entry)) {
            const covered one{errc::ok, found.range, entry, entry};
            peers_.for_each(entry->start, [&](int device, access_mode allowed) {
                static_cast<void>(insist([&] { return tell_peer_in_order(one, device, allowed); }));
            });
        }
    }

    /// The mappings in [from, to) are gone.
    void forget(address from, address to) noexcept { peers_.forget(from, to, false); }

  private:
    /// Calls `visit(run)` for each run of installed mappings with equal access.
    template <class Visit>
    static void for_each_run(const covered& found, Visit visit) {
        for (place entry = found.first; entry;) {
            covered run{errc::ok, found.range, entry, entry};
            place next = found.after(entry);
            while (next && next->allowed == entry->allowed && next->installed == entry->installed) {
                run.last = next;
                next = found.after(next);
            }
            if (entry->installed)
                visit(run);
            entry = next;
        }
    }

    /// What the driver is asked for.
    [[nodiscard]] access_mode native(access_mode allowed) const noexcept {
        return allowed == access_mode::read && !features_.read_only ? access_mode::read_write : allowed;
    }

    int tell(const covered& found, access_mode allowed) noexcept {
        if (allowed == access_mode::none && !features_.revocation)
            return map_anew(found);
        const covered run = whole_run(found);
        const access_mode most = strongest(run, found, allowed, own_);
        if (!peers_.configured().empty() && allowed != access_mode::none) {
            if (const int failed = close_to_own(run); failed != 0)
                return failed;
        }
        grants_.clear(); // its room was taken at construction
        if (!native_.quirks().local_access_last)
            grants_.push_back({own_, native(most)});
        for (const int peer : peers_.configured())
            grants_.push_back({peer, native(strongest(run, found, allowed, peer))});
        if (native_.quirks().local_access_last)
            grants_.push_back({own_, native(most)});
        return call(run, grants_);
    }
    int tell_peer(const covered& found, int device, access_mode allowed) noexcept {
        const covered run = whole_run(found);
        const std::array<device_grant, 1> grant{{{device, native(strongest(run, found, allowed, device))}}};
        return call(run, grant);
    }
    /// With the own device closed out meanwhile, where the order matters.
    int tell_peer_in_order(const covered& found, int device, access_mode allowed) noexcept {
        const bool ordered = native_.quirks().local_access_last && allowed != access_mode::none;
        int failed = ordered ? close_to_own(found) : 0;
        failed = failed != 0 ? failed : tell_peer(found, device, allowed);
        if (failed != 0 || !ordered)
            return failed;
        for_each_run(found, [&](const covered& part) {
            failed = failed != 0 ? failed : tell_own(part, part.first->allowed);
        });
        return failed;
    }
    int tell_own(const covered& found, access_mode allowed) noexcept {
        const covered run = whole_run(found);
        const std::array<device_grant, 1> grant{{{own_, native(strongest(run, found, allowed, own_))}}};
        return call(run, grant);
    }
    /// Where access of a peer must not be set after that of the own device, the latter is taken away first.
    int close_to_own(const covered& found) noexcept {
        bool open = false;
        for (place entry = found.first; entry; entry = found.after(entry))
            open = open || entry->allowed != access_mode::none;
        if (!open || !native_.quirks().local_access_last)
            return 0;
        const std::array<device_grant, 1> none{{{own_, access_mode::none}}};
        return call(found, none);
    }
    int call(const covered& run, std::span<const device_grant> grants) noexcept {
        return native_.set_access(run.first->start, run.last->end() - run.first->start, grants);
    }

    /// Fresh mappings have no access, for nobody.
    int map_anew(const covered& found) noexcept {
        for (place entry = found.first; entry; entry = found.after(entry)) {
            const auto pieces = chunks_.handles(entry->chunk);
            if (const int failed = native_.unmap(entry->start, entry->size, pieces); failed != 0)
                return failed;
            const int failed = insist([&] { return native_.map(entry->start, entry->size, pieces); });
            if (failed != 0) {
                entry->installed = false;
                entry->allowed = access_mode::none;
                return failed;
            }
        }
        peers_.forget(found.first->start, found.last->end(), false);
        return 0;
    }

    /// With the neighbours without a hole between, where the driver wants them told together. O(mappings of
    /// the reservation), as the driver's own work then is.
    [[nodiscard]] covered whole_run(const covered& found) const noexcept {
        covered run = found;
        if (!native_.quirks().access_over_whole_run)
            return run;
        auto& mappings = found.range->mappings;
        place first = mappings.first();
        for (place at = first; at != found.first;) {
            const place next = mappings.after(at);
            if (!at->installed || next->start != at->end())
                first = next;
            at = next;
        }
        run.first = first;
        for (place next = mappings.after(run.last); next && next->installed && next->start == run.last->end();
             next = mappings.after(next))
            run.last = next;
        return run;
    }

    /// The widest access among `allowed` for the mappings of `part` and what the tables say of the rest.
    [[nodiscard]] access_mode strongest(const covered& run, const covered& part, access_mode allowed,
                                        int device) const noexcept {
        access_mode most = allowed;
        const auto consider = [&](place entry) {
            const access_mode had =
                device == own_ ? entry->allowed : peers_.of(entry->start, device, entry->allowed);
            most = std::max(most, had);
        };
        for (place entry = run.first; entry != part.first; entry = run.after(entry))
            consider(entry);
        for (place entry = run.after(part.last); entry; entry = run.after(entry))
            consider(entry);
        return most;
    }

    device_native<Api>& native_;
    device_chunks<Api>& chunks_;
    device_peers peers_;
    access_features features_;
    int own_;
    std::vector<device_grant> grants_;
};

} // namespace vtensor::detail
