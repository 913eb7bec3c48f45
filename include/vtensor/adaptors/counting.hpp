// SPDX-License-Identifier: Apache-2.0
//
// Counts what passes through to a backend: calls, failures and bytes, by verb. It changes no outcome.
#pragma once

#include <vtensor/adaptors/call.hpp>
#include <vtensor/adaptors/detail/forwarding.hpp>
#include <vtensor/core/concepts.hpp>

#include <array>
#include <atomic>
#include <cstddef>

namespace vtensor::adaptors {

/// The calls of one verb.
struct verb_counts {
    std::size_t calls = 0;
    std::size_t failures = 0; ///< of them, refused or failed
    bytes size{};             ///< bytes concerned by the calls that succeeded; a chunk's own size for `map`

    friend constexpr bool operator==(const verb_counts&, const verb_counts&) noexcept = default;
};

/// The counts of every backend verb at one moment.
class call_counts {
  public:
    [[nodiscard]] constexpr const verb_counts& operator[](verb what) const noexcept {
        return by_verb_[static_cast<std::size_t>(what)];
    }
    [[nodiscard]] constexpr verb_counts& operator[](verb what) noexcept {
        return by_verb_[static_cast<std::size_t>(what)];
    }
    /// Calls of all verbs together.
    [[nodiscard]] constexpr std::size_t calls() const noexcept {
        std::size_t sum = 0;
        for (const verb_counts& counts : by_verb_)
            sum += counts.calls;
        return sum;
    }

    friend constexpr bool operator==(const call_counts&, const call_counts&) noexcept = default;

  private:
    std::array<verb_counts, backend_verbs> by_verb_{};
};

/// A backend that counts and forwards. `upstream` must outlive it. Thread-safe; a snapshot taken while other
/// threads call may show a call without its bytes.
template <backend Upstream>
class counting : public detail::forwarding<Upstream, counting<Upstream>> {
  public:
    explicit counting(Upstream& upstream) noexcept : detail::forwarding<Upstream, counting>{upstream} {}

    [[nodiscard]] call_counts snapshot() const noexcept {
        call_counts counts;
        for (std::size_t index = 0; index < backend_verbs; ++index) {
            const cell& from = cells_[index];
            counts[static_cast<verb>(index)] = {from.calls.load(std::memory_order_relaxed),
                                                from.failures.load(std::memory_order_relaxed),
                                                bytes{from.size.load(std::memory_order_relaxed)}};
        }
        return counts;
    }

    /// Starts again from zero.
    void reset() noexcept {
        for (cell& counted : cells_) {
            counted.calls.store(0, std::memory_order_relaxed);
            counted.failures.store(0, std::memory_order_relaxed);
            counted.size.store(0, std::memory_order_relaxed);
        }
    }

  private:
    friend class detail::around_access;

    struct cell {
        std::atomic<std::size_t> calls{0};
        std::atomic<std::size_t> failures{0};
        std::atomic<std::size_t> size{0};
    };

    template <class Next>
    auto around(const call& seen, Next& next) noexcept {
        auto outcome = next();
        cell& counted = cells_[static_cast<std::size_t>(seen.what)];
        counted.calls.fetch_add(1, std::memory_order_relaxed);
        if (outcome.ok())
            counted.size.fetch_add(seen.size.count(), std::memory_order_relaxed);
        else
            counted.failures.fetch_add(1, std::memory_order_relaxed);
        return outcome;
    }

    std::array<cell, backend_verbs> cells_{};
};

/// Counting over counting wraps it; without this it would be taken for a copy.
template <backend Upstream>
counting(counting<Upstream>&) -> counting<counting<Upstream>>;

} // namespace vtensor::adaptors
