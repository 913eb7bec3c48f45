// SPDX-License-Identifier: Apache-2.0
//
// What a device backend knows of each reservation besides its mappings: the driver's own range, and the epoch
// that rises whenever something is mapped or unmapped in it. Not locked.
#pragma once

#include <vtensor/backends/detail/device_native.hpp>

#include <cstdint>
#include <map>
#include <new>

namespace vtensor::detail {

/// By the start of the reservation. O(log n) a call.
class device_reservations {
  public:
    struct entry {
        native_range range;
        bytes size{};
        std::uint64_t epoch = 0;
    };
    using node = std::map<address, entry>::node_type;

    /// Room for one entry, taken before the driver is asked; empty where there is no memory.
    [[nodiscard]] static node prepare() noexcept {
        try {
            std::map<address, entry> one;
            one.emplace(address{}, entry{});
            return one.extract(one.begin());
        } catch (const std::bad_alloc&) {
            return {};
        }
    }

    void add(node&& prepared, const native_range& range, bytes size) noexcept {
        prepared.key() = range.aligned;
        prepared.mapped() = entry{range, size, 0};
        entries_.insert(std::move(prepared));
    }
    [[nodiscard]] entry& at(address start) noexcept { return entries_.find(start)->second; }
    void remove(address start) noexcept { entries_.erase(start); }

    template <class Visit>
    void for_each(Visit visit) const {
        for (const auto& [start, held] : entries_)
            visit(held);
    }

  private:
    std::map<address, entry> entries_;
};

} // namespace vtensor::detail
