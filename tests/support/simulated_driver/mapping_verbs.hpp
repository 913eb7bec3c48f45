// SPDX-License-Identifier: Apache-2.0
//
// Mappings and access of a simulated machine, and plain memory, refusing what the drivers' manuals say they
// refuse.
#pragma once

#include <support/simulated_driver/memory_verbs.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace vtensor::testing::simulated {

class mapping_verbs : public memory_verbs {
  public:
    int map(std::uintptr_t where, std::size_t size, std::size_t offset, std::uint64_t handle,
            unsigned long long flags) noexcept {
        const call made{.what = entry::mem_map, .where = where, .size = size, .object = handle};
        return perform(made, needs::context_if_strict, [&](auto&) {
            const auto behind = physical_.find(handle);
            const std::size_t unit = options_.minimum_granularity;
            if (behind == nullptr || flags != 0 || offset != 0 || size == 0 || size % unit != 0 ||
                where % unit != 0 || size > behind->size)
                return code::invalid_value;
            const auto in = addresses_.find(where, size);
            if (in == addresses_.none() || in->second.plain ||
                address_space::any_mapped(in->second, where, size))
                return code::invalid_value;
            spend(options_.latency.map * size_factor(size));
            return address_space::map(in->second, where, size, behind, handle)
                       ? code::success
                       : linux_refused("the mapping at", where, size);
        });
    }

    int unmap(std::uintptr_t where, std::size_t size) noexcept {
        const call made{.what = entry::mem_unmap, .where = where, .size = size};
        return perform(made, needs::context_if_strict, [&](auto& lock) {
            return when_idle(lock, where, size, [&](use_report& use) { return try_unmap(where, size, use); });
        });
    }

    /// `Desc` is the access descriptor of either driver.
    template <class Desc>
    int set_access(std::uintptr_t where, std::size_t size, const Desc* list, std::size_t count) noexcept {
        const call made{.what = entry::mem_set_access, .where = where, .size = size, .count = count};
        return perform(made, needs::context_if_strict, [&](auto& lock) {
            if (list == nullptr || count == 0)
                return code::invalid_value;
            std::vector<access_wish> wishes;
            for (const Desc& one : std::span{list, count}) {
                if (one.location.type != on_device)
                    return code::invalid_value;
                wishes.push_back({one.location.id, one.flags});
            }
            return when_idle(lock, where, size,
                             [&](use_report& use) { return try_set_access(where, size, wishes, use); });
        });
    }
    template <class Location>
    int get_access(unsigned long long* flags, const Location* who, std::uintptr_t where) noexcept {
        const call made{.what = entry::mem_get_access, .where = where};
        return perform(made, needs::context_if_strict, [&](auto&) {
            const mapping* const at = addresses_.mapping_at(where);
            if (flags == nullptr || at == nullptr || who == nullptr || who->type != on_device)
                return code::invalid_value;
            if (!is_device(who->id))
                return code::invalid_device;
            const auto granted = at->access.find(who->id);
            *flags = granted == at->access.end() ? 0u : static_cast<unsigned long long>(granted->second);
            return code::success;
        });
    }

    // ---- plain memory, as the fallback uses it ----

    int alloc(std::uintptr_t* where, std::size_t size) noexcept {
        return perform({.what = entry::mem_alloc, .size = size}, needs::context, [&](auto&) {
            if (where == nullptr || size == 0)
                return code::invalid_value;
            if (size > options_.capacity)
                return code::out_of_memory;
            const int device = current_device();
            const std::size_t whole = (size + page - 1) / page * page;
            auto [behind, failure] = physical_.allocate(whole, {device, 0, false});
            if (failure != code::success)
                return failure;
            reservation made{whole};
            made.plain = true;
            made.mappings.emplace(0,
                                  mapping{whole, behind, 0, {{device, may_write}}}); // not at its place yet
            const std::uintptr_t got = addresses_.reserve(whole, page);
            if (got == 0)
                return code::out_of_memory;
            const auto in = addresses_.find_exactly(got);
            auto node = made.mappings.extract(made.mappings.begin());
            node.key() = got;
            made.mappings.insert(std::move(node));
            std::swap(in->second, made);
            if (!address_space::back(got, in->second.mappings.begin()->second) ||
                !address_space::protect({in->second.mappings.begin(), in->second.mappings.end()})) {
                addresses_.free(in);
                return linux_refused("the allocation at", got, whole);
            }
            *where = got;
            return code::success;
        });
    }
    int free(std::uintptr_t where) noexcept {
        return perform({.what = entry::mem_free, .where = where}, needs::context, [&](auto& lock) {
            if (where == 0 && api_ == api::hip)
                return code::success;
            const auto found = addresses_.find_exactly(where);
            if (found == addresses_.none() || !found->second.plain)
                return code::invalid_value;
            const std::size_t size = found->second.size;
            return when_idle(lock, where, size, [&](use_report& use) {
                const auto again = addresses_.find_exactly(where);
                if (again == addresses_.none() || !again->second.plain)
                    return code::invalid_value;
                if (use.must_wait("was freed"))
                    return busy;
                addresses_.free(again);
                return code::success;
            });
        });
    }

  protected:
    using memory_verbs::memory_verbs;
    ~mapping_verbs() = default;

  private:
    using run_of_mappings = address_space::mappings;
    static constexpr int busy = -1; ///< no code of a driver: a kernel runs on the range, wait and try again

    /// Reports, once a call, that work still touches the range whose memory is being taken away.
    struct use_report {
        mapping_verbs& machine;
        std::uintptr_t where;
        std::size_t size;
        bool done = false;

        /// True while a kernel runs on the range: taking its memory away would take the process with it.
        bool must_wait(const char* what) {
            const stream_state* const user = machine.streams_.user_of(where, size);
            if (user != nullptr && !done)
                machine.report(violation_kind::unmapped_in_use,
                               range_text(where, size) + ' ' + what + " while work of stream " +
                                   std::to_string(user->number) + " touches it");
            done = true;
            return machine.streams_.is_running_on(where, size);
        }
    };

    /// Tries until no kernel runs on the range. The lock is given up while waiting, so every try looks
    /// everything up anew.
    template <class Try>
    int when_idle(std::unique_lock<std::mutex>& lock, std::uintptr_t where, std::size_t size, Try attempt) {
        use_report use{*this, where, size};
        for (;;) {
            if (const int result = attempt(use); result != busy)
                return result;
            changed_.wait(lock, [&] { return !streams_.is_running_on(where, size); });
        }
    }

    int try_unmap(std::uintptr_t where, std::size_t size, use_report& use) {
        const auto in = addresses_.find(where, size);
        if (in == addresses_.none() || in->second.plain)
            return code::invalid_value;
        run_of_mappings run = address_space::whole_mappings(in->second, where, size);
        if (run.first == run.second)
            return code::invalid_value;
        const auto several = static_cast<std::size_t>(std::distance(run.first, run.second));
        if (several > 1 && options_.quirks.unmap_of_several_fails)
            return code::invalid_value;
        if (options_.quirks.memory_returns_with_addresses)
            in->second.kept.reserve(in->second.kept.size() + several);
        if (use.must_wait("was unmapped"))
            return busy;
        spend(options_.latency.unmap + options_.latency.unmap_each_more * static_cast<double>(several - 1));
        in->second.pinned |= several > 1 && options_.quirks.unmap_of_several_pins_addresses;
        while (run.first != run.second) {
            const auto gone = run.first++;
            const std::size_t was_accessible = is_accessible(gone->second) ? 1 : 0;
            const auto behind = gone->second.behind;
            if (!address_space::unmap(in->second, gone))
                return linux_refused("unmapping", where, size);
            accessible_ -= was_accessible;
            if (options_.quirks.memory_returns_with_addresses)
                in->second.kept.push_back(behind);
        }
        return code::success;
    }

    int try_set_access(std::uintptr_t where, std::size_t size, const std::vector<access_wish>& wishes,
                       use_report& use) {
        const auto in = addresses_.find(where, size);
        if (in == addresses_.none() || in->second.plain)
            return code::invalid_value;
        const run_of_mappings run = address_space::whole_mappings(in->second, where, size);
        if (run.first == run.second)
            return code::invalid_value;
        if (const int refused = check_wishes(wishes, run); refused != code::success)
            return refused;
        if (const int refused = check_quirks(in->second, run); refused != code::success)
            return refused;

        // Copies first: what can throw, throws before anything has changed.
        std::vector<mapping> after;
        std::size_t count = accessible_;
        bool less = false;
        bool corrupts = false;
        for (auto at = run.first; at != run.second; ++at) {
            mapping& changed = after.emplace_back(at->second);
            for (const access_wish& wish : wishes)
                corrupts |= apply(changed, wish);
            count += is_accessible(changed) ? 1u : 0u;
            count -= is_accessible(at->second) ? 1u : 0u;
            less |= (at->second.processor_flags() & ~changed.processor_flags()) != 0;
        }
        if (options_.max_accessible_mappings != 0 && count > options_.max_accessible_mappings)
            return code::out_of_memory;
        if (less && use.must_wait("lost access"))
            return busy;
        if (corrupts)
            report(violation_kind::corrupted,
                   "a peer got access after the owner had it: " + range_text(where, size));
        spend(options_.latency.set_access +
              options_.latency.set_access_each_more * static_cast<double>(after.size() - 1));
        exchange(run, after);
        if (!address_space::protect(run)) {
            exchange(run, after);
            address_space::protect(run);
            return linux_refused("access to", where, size);
        }
        accessible_ = count;
        return code::success;
    }

    static void exchange(const run_of_mappings& run, std::vector<mapping>& with) noexcept {
        auto other = with.begin();
        for (auto at = run.first; at != run.second; ++at, ++other)
            std::swap(at->second, *other);
    }

    [[nodiscard]] int check_wishes(const std::vector<access_wish>& wishes,
                                   const run_of_mappings& run) const noexcept {
        for (const access_wish& wish : wishes) {
            if (wish.flags != may_nothing && wish.flags != may_read && wish.flags != may_write)
                return code::invalid_value;
            if (!is_device(wish.device))
                return code::invalid_device;
            for (auto at = run.first; at != run.second; ++at) {
                if (at->second.behind->properties.device != wish.device && !options_.peers_can_access)
                    return code::invalid_device;
            }
        }
        return code::success;
    }
    [[nodiscard]] int check_quirks(const reservation& in, const run_of_mappings& run) const noexcept {
        if (options_.quirks.set_access_only_from_start && run.first != in.mappings.begin())
            return code::invalid_value;
        const std::size_t unit = options_.quirks.working_granularity;
        for (auto at = run.first; unit != 0 && at != run.second; ++at) {
            if (at->first % unit != 0 || at->second.size % unit != 0)
                return code::unknown;
        }
        return code::success;
    }

    /// True where the wish damages the mapping.
    bool apply(mapping& changed, const access_wish& wish) const {
        const int owner = changed.behind->properties.device;
        const auto own = changed.access.find(owner);
        const bool damages = options_.quirks.peer_access_after_local_corrupts && wish.device != owner &&
                             wish.flags != may_nothing && own != changed.access.end() &&
                             own->second != may_nothing;
        changed.access[wish.device] = wish.flags;
        changed.corrupt |= damages;
        return damages;
    }
    [[nodiscard]] static bool is_accessible(const mapping& one) noexcept {
        return std::any_of(one.access.begin(), one.access.end(),
                           [](const auto& granted) { return granted.second != may_nothing; });
    }

    std::size_t accessible_ = 0; ///< mappings that some device may touch
};

} // namespace vtensor::testing::simulated
