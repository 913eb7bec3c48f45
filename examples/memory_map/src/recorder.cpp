// SPDX-License-Identifier: Apache-2.0
#include "recorder.hpp"

#include <new>
#include <utility>

namespace memory_map {

void recorder::record(const vtensor::adaptors::trace_event& event) noexcept {
    const std::lock_guard lock{mutex_};
    try {
        entries_.emplace_back(event);
    } catch (const std::bad_alloc&) {
        ++dropped_;
    }
}

void recorder::say(std::string title, std::string text) {
    const std::lock_guard lock{mutex_};
    entries_.emplace_back(mark{std::move(title), std::move(text)});
}

void recorder::name(vtensor::address where, std::string what) {
    const std::lock_guard lock{mutex_};
    entries_.emplace_back(label{where, std::move(what)});
}

void recorder::rows(live_rows state) {
    const std::lock_guard lock{mutex_};
    entries_.emplace_back(std::move(state));
}

std::vector<entry> recorder::entries() const {
    const std::lock_guard lock{mutex_};
    return entries_;
}

std::size_t recorder::dropped() const noexcept {
    const std::lock_guard lock{mutex_};
    return dropped_;
}

} // namespace memory_map
