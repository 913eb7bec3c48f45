// SPDX-License-Identifier: Apache-2.0
//
// A tensor beside a plain list of the positions that must be in it, whose every byte of every live row
// follows from its position: what the tests of eviction and defragmentation have in common.
#pragma once

#include "patterns.hpp"
#include "support/catch.hpp"

#include <vtensor/policy/defrag.hpp>
#include <vtensor/policy/eviction/by_caller.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vtensor::testing {

template <class Backend, class Growth = growth::exact, class Mutex = no_mutex>
using evicting_tensor = virtual_tensor<std::uint8_t, Backend, Growth, eviction::by_caller, Mutex>;

/// The byte that the row at a position holds in a column.
[[nodiscard]] inline std::uint8_t byte_of(position_type at, std::size_t column, std::uint32_t salt = 0) {
    const std::uint32_t mixed = (at + 1) * 2654435761u + static_cast<std::uint32_t>(column) * 40503u + salt;
    return static_cast<std::uint8_t>(mixed >> 13);
}

/// Appends rows and fills them.
template <class Tensor>
[[nodiscard]] status append_filled(Tensor& tensor, std::size_t count, std::uint32_t salt = 0) {
    const position_type first = tensor.next_position();
    const auto made = tensor.try_append(count);
    if (!made)
        return made.status();
    for (std::size_t row = 0; row < count; ++row) {
        for (std::size_t column = 0; column < made->extents[1]; ++column)
            (*made)(row, column) = byte_of(first + static_cast<position_type>(row), column, salt);
    }
    return {};
}

/// Bytes of live rows that are not what they were when the rows were appended.
template <class Tensor>
[[nodiscard]] std::size_t wrong_bytes(const Tensor& tensor, std::uint32_t salt = 0) {
    const auto view = tensor.view();
    const auto positions = tensor.positions();
    std::size_t wrong = 0;
    for (std::size_t slot = 0; slot < tensor.rows(); ++slot) {
        const position_type at = positions.empty() ? static_cast<position_type>(slot) : positions[slot];
        if (at == no_position)
            continue;
        for (std::size_t column = 0; column < view.extents[1]; ++column)
            wrong += view(slot, column) != byte_of(at, column, salt) ? 1u : 0u;
    }
    return wrong;
}

/// The positions of the live rows, sorted.
template <class Tensor>
[[nodiscard]] std::vector<position_type> live_positions(const Tensor& tensor) {
    std::vector<position_type> live;
    for (const slot_type slot : live_slots(tensor.positions(), tensor.rows()))
        live.push_back(tensor.positions().empty() ? slot : tensor.positions()[slot]);
    std::ranges::sort(live);
    return live;
}

/// Evicts some rows as the dice say. Returns the positions that stay.
template <class Tensor>
std::vector<position_type> evict_some(Tensor& tensor, dice& random) {
    const auto kept = choose_some(random, live_slots(tensor.positions(), tensor.rows()));
    REQUIRE(tensor.try_evict(kept));
    CHECK(tensor.live_rows() == kept.size());
    return live_positions(tensor);
}

/// Costs of a machine where remapping a page costs as much as copying so many bytes.
[[nodiscard]] inline defrag::costs page_worth(double copied_bytes) {
    return {
        .copied_byte = 1, .copied_run = 10, .remapped_page = copied_bytes, .remapped_run = 10, .waited = 0};
}

/// The policy of a number, 0 … policies − 1, as one type, so that a test is compiled once for all of them.
inline constexpr std::size_t policies = 8;
struct numbered_policy {
    std::size_t number = 0;

    [[nodiscard]] status plan(const defrag::state& from, defrag::plan& into) const noexcept {
        switch (number) {
        case 0:
            return defrag::none{}.plan(from, into);
        case 1:
            return defrag::compact{}.plan(from, into);
        case 2:
            return defrag::swap_with_last{}.plan(from, into);
        case 3:
            return defrag::remap{}.plan(from, into);
        case 4:
            return defrag::hybrid{page_worth(1)}.plan(from, into);
        case 5:
            return defrag::hybrid{page_worth(3000)}.plan(from, into);
        case 6:
            return defrag::hybrid{}.plan(from, into);
        default:
            return defrag::incremental<80'000>{}.plan(from, into);
        }
    }
};
inline constexpr const char* policy_names[policies] = {"none",
                                                       "compact",
                                                       "swap_with_last",
                                                       "remap",
                                                       "hybrid, remapping cheap",
                                                       "hybrid",
                                                       "hybrid, costs unknown",
                                                       "incremental"};

} // namespace vtensor::testing
