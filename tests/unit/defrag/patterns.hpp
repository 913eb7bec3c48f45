// SPDX-License-Identifier: Apache-2.0
//
// Which rows die, in the ways that eviction lets them, and the numbers behind it.
#pragma once

#include <vtensor/core/rows.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace vtensor::testing {

/// Uniform numbers from one seed.
class dice {
  public:
    explicit dice(std::uint64_t seed) : engine_{seed} {}

    /// 0 … count − 1; 0 where count is 0.
    [[nodiscard]] std::size_t below(std::size_t count) { return count == 0 ? 0 : engine_() % count; }
    [[nodiscard]] bool one_in(std::size_t count) { return below(count) == 0; }

  private:
    std::mt19937_64 engine_;
};

/// The live slots of `rows`, given their positions (empty: all).
[[nodiscard]] inline std::vector<slot_type> live_slots(std::span<const position_type> positions,
                                                       std::size_t rows) {
    std::vector<slot_type> live;
    for (std::size_t slot = 0; slot < rows; ++slot) {
        if (positions.empty() || positions[slot] != no_position)
            live.push_back(static_cast<slot_type>(slot));
    }
    return live;
}

/// Some of the live slots: scattered, in clusters, without the front, without the end, few, none or all.
[[nodiscard]] inline std::vector<slot_type> choose_some(dice& random, std::span<const slot_type> live) {
    std::vector<slot_type> kept;
    const std::size_t way = random.below(8);
    const std::size_t cut = random.below(live.size() + 1);
    const std::size_t share = 2 + random.below(9);
    bool cluster = false;
    for (std::size_t index = 0; index < live.size(); ++index) {
        if (random.one_in(17))
            cluster = !cluster;
        const bool keep = way == 0   ? random.one_in(share)
                          : way == 1 ? !random.one_in(share)
                          : way == 2 ? cluster
                          : way == 3 ? index >= cut
                          : way == 4 ? index < cut
                          : way == 5 ? index < 3 || index >= cut
                          : way == 6 ? false
                                     : random.one_in(2);
        if (keep)
            kept.push_back(live[index]);
    }
    return kept;
}

} // namespace vtensor::testing
