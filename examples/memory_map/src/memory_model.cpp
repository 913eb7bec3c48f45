// SPDX-License-Identifier: Apache-2.0
#include "memory_model.hpp"

#include <iterator>

namespace memory_map {

using vtensor::address;
using vtensor::bytes;
using vtensor::verb;

namespace {

void must(bool holds, const char* sentence) {
    if (!holds)
        throw replay_error{sentence};
}

} // namespace

void memory_model::apply(const vtensor::adaptors::trace_event& event) {
    if (event.outcome != vtensor::errc::ok)
        return;
    switch (event.what) {
    case verb::reserve:
        return reserve(event.where, event.size);
    case verb::release:
        return release(event.where, event.size);
    case verb::create:
    case verb::import_chunk:
        return create(event.chunk, event.size);
    case verb::destroy:
        return destroy(event.chunk);
    case verb::map:
        return map(event.where, event.chunk);
    case verb::set_access:
        return set_access(event.where, event.size, event.allowed);
    case verb::unmap:
        return unmap(event.where, event.size);
    default: // moves no memory
        return;
    }
}

auto memory_model::reservation_at(address where) const noexcept -> reservations_type::const_iterator {
    const auto behind = reservations_.upper_bound(where);
    if (behind == reservations_.begin())
        return reservations_.end();
    const auto found = std::prev(behind);
    return where < found->first + found->second ? found : reservations_.end();
}

void memory_model::reserve(address where, bytes size) {
    must(reservation_at(where) == reservations_.end(), "reserve: the addresses are taken");
    const auto next = reservations_.lower_bound(where);
    must(next == reservations_.end() || where + size <= next->first, "reserve: the addresses are taken");
    reservations_.emplace(where, size);
    totals_.reserved += size;
}

void memory_model::release(address where, bytes size) {
    const auto found = reservations_.find(where);
    must(found != reservations_.end() && found->second == size, "release: there is no such reservation");
    const auto mapped = mappings_.lower_bound(where);
    must(mapped == mappings_.end() || where + size <= mapped->first, "release: something is mapped there");
    reservations_.erase(found);
    totals_.reserved -= size;
}

void memory_model::create(std::uint64_t chunk, bytes size) {
    must(chunk != 0 && chunks_.emplace(chunk, chunk_state{size}).second, "create: the chunk exists");
    totals_.physical += size;
}

void memory_model::destroy(std::uint64_t chunk) {
    const auto found = chunks_.find(chunk);
    must(found != chunks_.end() && !found->second.destroyed, "destroy: there is no such chunk");
    if (found->second.places > 0) {
        found->second.destroyed = true;
        return;
    }
    totals_.physical -= found->second.size;
    chunks_.erase(found);
}

void memory_model::map(address where, std::uint64_t chunk) {
    const auto found = chunks_.find(chunk);
    must(found != chunks_.end() && !found->second.destroyed, "map: there is no such chunk");
    chunk_state& state = found->second;
    const auto around = reservation_at(where);
    must(around != reservations_.end() && where + state.size <= around->first + around->second,
         "map: the addresses are not reserved");
    const auto next = mappings_.lower_bound(where);
    must(next == mappings_.end() || where + state.size <= next->first, "map: something is mapped there");
    must(next == mappings_.begin() || std::prev(next)->first + std::prev(next)->second.size <= where,
         "map: something is mapped there");
    mappings_.emplace_hint(next, where, mapping{state.size, chunk});
    ++state.places;
    totals_.mapped += state.size;
    if (state.places > 1) // with the second place the first one is shared, too
        totals_.shared += state.size * (state.places == 2 ? 2 : 1);
}

auto memory_model::whole_mappings(address where, bytes size, const char* verb) -> range {
    const auto first = mappings_.find(where);
    auto last = first;
    for (address reached = where; reached != where + size; ++last) {
        must(last != mappings_.end() && last->first == reached, verb);
        reached = reached + last->second.size;
        must(reached <= where + size, verb);
    }
    return {first, last};
}

void memory_model::set_access(address where, bytes size, vtensor::access_mode allowed) {
    const auto [first, last] = whole_mappings(where, size, "set_access: not a run of whole mappings");
    for (auto each = first; each != last; ++each)
        each->second.allowed = allowed;
}

void memory_model::unmap(address where, bytes size) {
    const auto [first, last] = whole_mappings(where, size, "unmap: not a run of whole mappings");
    for (auto each = first; each != last; ++each) {
        const auto found = chunks_.find(each->second.chunk);
        chunk_state& state = found->second;
        totals_.mapped -= state.size;
        if (state.places > 1) // with the second place gone the first one is not shared any more
            totals_.shared -= state.size * (state.places == 2 ? 2 : 1);
        if (--state.places == 0 && state.destroyed) {
            totals_.physical -= state.size;
            chunks_.erase(found);
        }
    }
    mappings_.erase(first, last);
}

} // namespace memory_map
