// SPDX-License-Identifier: Apache-2.0
//
// Which chunk size is cheapest on the device at hand: measured, because the price of the same verb differs by
// a factor of twenty between machines. Larger chunks cost less a byte and leave more unused at the end of a
// tensor. It works on any backend and leaves nothing behind.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <new>
#include <span>
#include <vector>

namespace vtensor {

/// What the verbs cost for chunks of one size, each the mean of one chunk.
struct chunk_cost {
    bytes chunk_size{};
    std::chrono::nanoseconds create{};
    std::chrono::nanoseconds map{};
    std::chrono::nanoseconds set_access{}; ///< one call for the whole run, shared among its chunks
    std::chrono::nanoseconds unmap{};      ///< likewise
    std::chrono::nanoseconds destroy{};

    /// Of growing and shrinking by one chunk out of a pool.
    [[nodiscard]] std::chrono::nanoseconds remap() const noexcept { return map + set_access + unmap; }
};

/// Times the verbs on a run of `chunks` fresh chunks, which it gives back. A verb's failure ends it, with
/// nothing left. `Clock` is a steady clock.
template <class Clock = std::chrono::steady_clock, backend Backend>
[[nodiscard]] result<chunk_cost> measure_chunk_cost(Backend& backend, bytes chunk_size,
                                                    std::size_t chunks = 4) noexcept {
    using chunk_type = typename Backend::chunk_type;
    if (chunks == 0)
        return error{errc::invalid_argument, verb::construct, 0, chunk_size};
    std::vector<chunk_type> made;
    try {
        made.reserve(chunks);
    } catch (const std::bad_alloc&) {
        return error{errc::out_of_memory, verb::construct, 0, chunk_size};
    }
    const bytes run = chunk_size * chunks;
    const auto where = backend.reserve(run, bytes{0});
    if (!where)
        return where.error();

    status outcome;
    std::size_t mapped = 0;
    chunk_cost cost{chunk_size, {}, {}, {}, {}, {}};
    const auto timed = [&](std::chrono::nanoseconds& spent, auto call) {
        if (!outcome)
            return;
        const auto start = Clock::now();
        outcome = call();
        spent += std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start);
    };
    for (std::size_t index = 0; index < chunks; ++index)
        timed(cost.create, [&]() -> status {
            const auto chunk = backend.create(chunk_size);
            if (chunk)
                made.push_back(*chunk);
            return chunk.status();
        });
    for (std::size_t index = 0; index < chunks; ++index)
        timed(cost.map, [&] {
            const status done = backend.map(*where + chunk_size * index, made[index]);
            mapped += done ? 1u : 0u;
            return done;
        });
    timed(cost.set_access, [&] { return backend.set_access(*where, run, access_mode::read_write); });
    timed(cost.unmap, [&] {
        const status done = backend.unmap(*where, run);
        mapped = done ? 0 : mapped;
        return done;
    });
    while (outcome && !made.empty())
        timed(cost.destroy, [&] {
            const status done = backend.destroy(made.back());
            if (done)
                made.pop_back();
            return done;
        });

    // After a failure: what is left goes too, each with a second try.
    const auto insist = [](auto call) {
        if (!call())
            static_cast<void>(call());
    };
    if (mapped != 0)
        insist([&] { return backend.unmap(*where, chunk_size * mapped).ok(); });
    for (const chunk_type chunk : made)
        insist([&] { return backend.destroy(chunk).ok(); });
    insist([&] { return backend.release(*where, run).ok(); });
    if (!outcome)
        return outcome;
    for (auto* const spent : {&cost.create, &cost.map, &cost.set_access, &cost.unmap, &cost.destroy})
        *spent /= static_cast<std::chrono::nanoseconds::rep>(chunks);
    return cost;
}

/// Of the sizes that were measured, the one with the least remapping cost a byte for which half a chunk,
/// which is what the end of a tensor leaves unused on average, is at most `waste` (0 … 1) of the `typical`
/// bytes of a tensor; where none is small enough for that, the smallest. `costs` must not be empty.
[[nodiscard]] inline bytes choose_chunk_size(std::span<const chunk_cost> costs, bytes typical,
                                             double waste) noexcept {
    const auto price = [](const chunk_cost& of) {
        return static_cast<double>(of.remap().count()) / static_cast<double>(of.chunk_size.count());
    };
    const chunk_cost* smallest = &costs.front();
    const chunk_cost* best = nullptr;
    for (const chunk_cost& candidate : costs) {
        if (candidate.chunk_size < smallest->chunk_size)
            smallest = &candidate;
        const bool fits = static_cast<double>(candidate.chunk_size.count()) / 2 <=
                          waste * static_cast<double>(typical.count());
        if (!fits)
            continue;
        const bool cheaper = best == nullptr || price(candidate) < price(*best);
        const bool as_cheap_and_smaller =
            best != nullptr && price(candidate) == price(*best) && candidate.chunk_size < best->chunk_size;
        if (cheaper || as_cheap_and_smaller)
            best = &candidate;
    }
    return best != nullptr ? best->chunk_size : smallest->chunk_size;
}

/// Measures 2, 16 and 64 MiB, of them those that are multiples of the granularity and for which there is
/// memory, and the granularity itself; chooses as above. Fails with what the granularity's own trial failed
/// with.
template <class Clock = std::chrono::steady_clock, backend Backend>
[[nodiscard]] result<bytes> probe_chunk_size(Backend& backend, bytes typical, double waste = 0.125) noexcept {
    std::array<chunk_cost, 4> costs;
    const auto unit = measure_chunk_cost<Clock>(backend, backend.granularity());
    if (!unit)
        return unit.error();
    costs[0] = *unit;
    std::size_t count = 1;
    for (const bytes size : {2_MiB, 16_MiB, 64_MiB}) {
        if (size <= backend.granularity() || size % backend.granularity() != bytes{0})
            continue;
        if (const auto cost = measure_chunk_cost<Clock>(backend, size))
            costs[count++] = *cost;
        else if (!is_shortage(cost.code()))
            return cost.error();
    }
    return choose_chunk_size(std::span{costs}.first(count), typical, waste);
}

} // namespace vtensor
