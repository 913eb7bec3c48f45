// SPDX-License-Identifier: Apache-2.0
//
// Walks over a tensor's slots as runs of live and of dead ones: what all defragmentation policies have in
// common. Nothing here allocates, except `planned`, which turns a lack of memory into a status.
#pragma once

#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/core/error.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

namespace vtensor::defrag::detail {

/// Slots [first, end).
struct slot_run {
    std::size_t first = 0;
    std::size_t end = 0;

    [[nodiscard]] constexpr std::size_t size() const noexcept { return end - first; }
};

/// The maximal runs of live, or of dead, slots in [from, end), from the first on. Sixty-four slots at a time:
/// scattered rows make short runs, and a branch for each slot would be mispredicted at every one of them.
class slot_runs {
  public:
    slot_runs(const state& of, bool live, std::size_t from, std::size_t end) noexcept
        : positions_{of.positions.empty() ? nullptr : of.positions.data()},
          live_{live},
          word_{from},
          end_{end},
          bits_{load(from)} {}

    /// The next run; an empty one at the end where there is none.
    [[nodiscard]] slot_run next() noexcept {
        while (bits_ == 0) {
            if (!advance())
                return {end_, end_};
        }
        const auto zeros = static_cast<unsigned>(std::countr_zero(bits_));
        const auto ones = static_cast<unsigned>(std::countr_one(bits_ >> zeros));
        const std::size_t first = word_ + zeros;
        if (zeros + ones < 64) {
            bits_ &= ~std::uint64_t{0} << (zeros + ones);
            return {first, first + ones};
        }
        bits_ = 0;
        while (advance() && bits_ == ~std::uint64_t{0})
            bits_ = 0;
        if (word_ >= end_)
            return {first, end_};
        const auto more = static_cast<unsigned>(std::countr_one(bits_));
        bits_ &= ~std::uint64_t{0} << more;
        return {first, word_ + more};
    }

  private:
    bool advance() noexcept {
        word_ = std::min(end_, word_ + 64);
        bits_ = load(word_);
        return word_ < end_;
    }
    /// A bit for each of the 64 slots from `first` on that is one of ours.
    [[nodiscard]] std::uint64_t load(std::size_t first) const noexcept {
        const std::size_t count = std::min<std::size_t>(64, end_ - std::min(first, end_));
        const std::uint64_t inside = count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
        std::uint64_t alive = ~std::uint64_t{0};
        if (positions_ != nullptr) {
            alive = count == 64 ? live_bits(positions_ + first) : 0;
            for (std::size_t slot = 0; count < 64 && slot < count; ++slot)
                alive |= std::uint64_t{positions_[first + slot] != no_position} << slot;
        }
        return (live_ ? alive : ~alive) & inside;
    }

    /// A bit for each of 64 positions that is live: bytes first, which compilers do many at a time, then each
    /// eight gathered by a multiplication that brings byte i's bit to bit 56 + i.
    [[nodiscard]] static std::uint64_t live_bits(const position_type* positions) noexcept {
        std::array<std::uint8_t, 64> flags{};
        for (std::size_t slot = 0; slot < 64; ++slot)
            flags[slot] = positions[slot] != no_position ? 1 : 0;
        std::uint64_t bits = 0;
        for (std::size_t group = 0; group < 8; ++group) {
            std::uint64_t eight = 0;
            for (std::size_t byte = 0; byte < 8; ++byte)
                eight |= std::uint64_t{flags[8 * group + byte]} << (8 * byte);
            bits |= ((eight * 0x0102040810204080u) >> 56) << (8 * group);
        }
        return bits;
    }

    const position_type* positions_; ///< null: all live
    bool live_;
    std::size_t word_; ///< the first slot of `bits_`
    std::size_t end_;
    std::uint64_t bits_;
};

/// O(slots); four bytes a slot read, many at a time.
[[nodiscard]] constexpr std::size_t count_live(const state& of, std::size_t from, std::size_t end) noexcept {
    if (of.positions.empty())
        return end - from;
    slot_type count = 0; // as wide as a position, so that compilers count in vectors
    for (std::size_t slot = from; slot < end; ++slot)
        count += of.positions[slot] != no_position ? 1u : 0u;
    return count;
}

/// Whether one of the slots in [from, end) is live. Many at a time: there may be long runs of dead ones.
[[nodiscard]] constexpr bool any_live(const state& of, std::size_t from, std::size_t end) noexcept {
    constexpr std::size_t together = 64;
    while (end - from > together) {
        if (count_live(of, from, from + together) != 0)
            return true;
        from += together;
    }
    return count_live(of, from, end) != 0;
}

/// The last run of live slots in [from, end); empty at `from` where there is none.
[[nodiscard]] constexpr slot_run last_live_run(const state& of, std::size_t from, std::size_t end) noexcept {
    while (end > from && !of.is_live(end - 1))
        --end;
    std::size_t first = end;
    while (first > from && of.is_live(first - 1))
        --first;
    return {first, end};
}

/// Behind the last live slot.
[[nodiscard]] constexpr std::size_t live_end(const state& of) noexcept {
    std::size_t end = of.rows;
    while (end > 0 && !of.is_live(end - 1))
        --end;
    return end;
}

[[nodiscard]] inline row_move move_of(std::size_t from, std::size_t to, std::size_t count) noexcept {
    return {static_cast<slot_type>(from), static_cast<slot_type>(to), static_cast<std::uint32_t>(count)};
}

/// Runs `build(plan)`, which may run out of memory, on a plan that moves nothing yet.
template <class Build>
[[nodiscard]] status planned(const state& from, plan& into, Build build) noexcept {
    into.reset(from);
    try {
        build(into);
    } catch (const std::bad_alloc&) {
        into.reset(from);
        return error{errc::out_of_memory, verb::defragment, 0, bytes{from.rows * sizeof(row_move)}};
    }
    return {};
}

} // namespace vtensor::defrag::detail
