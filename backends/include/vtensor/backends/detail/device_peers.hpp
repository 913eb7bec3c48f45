// SPDX-License-Identifier: Apache-2.0
//
// Which mappings a peer may touch otherwise than the device that owns the memory: book-keeping only, not
// locked. Peers named at construction have the owner's access unless an entry here says otherwise, other
// devices have none unless an entry says so.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <algorithm>
#include <map>
#include <new>
#include <utility>
#include <vector>

namespace vtensor::detail {

/// O(log n) a mapping, where there are entries at all.
class device_peers {
  public:
    using exceptions = std::map<std::pair<address, int>, access_mode>;

    explicit device_peers(std::vector<int> configured) noexcept : configured_{std::move(configured)} {}

    [[nodiscard]] const std::vector<int>& configured() const noexcept { return configured_; }
    [[nodiscard]] bool is_configured(int device) const noexcept {
        return std::find(configured_.begin(), configured_.end(), device) != configured_.end();
    }

    /// What the device may do with the mapping at `start`, whose owner may do `owner`.
    [[nodiscard]] access_mode of(address start, int device, access_mode owner) const noexcept {
        const auto found = exceptions_.find({start, device});
        if (found != exceptions_.end())
            return found->second;
        return is_configured(device) ? owner : access_mode::none;
    }

    /// Prepares an entry for one mapping; false where there is no memory.
    [[nodiscard]] static bool prepare(exceptions& fresh, address start, int device,
                                      access_mode allowed) noexcept {
        try {
            fresh.insert_or_assign({start, device}, allowed);
            return true;
        } catch (const std::bad_alloc&) {
            return false;
        }
    }
    /// Enters what was prepared, in place of what was there.
    void enter(exceptions&& fresh) noexcept {
        for (const auto& [key, allowed] : fresh)
            exceptions_.erase(key);
        exceptions_.merge(fresh);
    }

    /// The entries of mappings in [from, to) are gone: all, or those of configured peers.
    void forget(address from, address to, bool only_configured) noexcept {
        for (auto entry = exceptions_.lower_bound({from, 0});
             entry != exceptions_.end() && entry->first.first < to;) {
            const bool gone = !only_configured || is_configured(entry->first.second);
            entry = gone ? exceptions_.erase(entry) : std::next(entry);
        }
    }

    /// Calls `visit(device, allowed)` for each entry of the mapping at `start`.
    template <class Visit>
    void for_each(address start, Visit visit) const {
        for (auto entry = exceptions_.lower_bound({start, 0});
             entry != exceptions_.end() && entry->first.first == start; ++entry)
            visit(entry->first.second, entry->second);
    }

  private:
    std::vector<int> configured_;
    exceptions exceptions_;
};

} // namespace vtensor::detail
