// SPDX-License-Identifier: Apache-2.0
//
// How much room packed heads get. A plain value.
#pragma once

#include <algorithm>
#include <cstddef>

namespace vtensor::kv {

/// How much room every head of a `packed_cache` has behind its rows when the heads are laid out.
struct packed_room {
    std::size_t least = 32; ///< rows
    std::size_t share = 8;  ///< beyond that, one for every `share` rows; 0: none

    /// Rows that a head of `rows` rows gets, of at most `most`.
    [[nodiscard]] constexpr std::size_t around(std::size_t rows, std::size_t most) const noexcept {
        const std::size_t room = std::max(least, share == 0 ? 0 : rows / share);
        return room >= most - rows ? most : rows + room;
    }
};

} // namespace vtensor::kv
