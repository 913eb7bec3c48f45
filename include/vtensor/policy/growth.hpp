// SPDX-License-Identifier: Apache-2.0
//
// Growth policies: how many pages a tensor should have mapped, from how many it has, needs and may have.
// Values without state; they never touch memory. The tensor clamps every answer to [needed, limit] and gives
// up what lies beyond `needed` when memory is short, so a policy cannot make an operation fail.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <algorithm>
#include <cstddef>

namespace vtensor::growth {

/// Just what the rows occupy: the least memory, one mapping call whenever a page boundary is crossed.
struct exact {
    [[nodiscard]] constexpr page_count target(const growth_state& state) const noexcept {
        return state.needed;
    }
};

/// Multiples of `Pages` pages: one call every `Pages` pages, at most `Pages` − 1 of them unused.
template <std::size_t Pages>
struct fixed {
    static_assert(Pages > 0, "growth by no pages is none");

    [[nodiscard]] constexpr page_count target(const growth_state& state) const noexcept {
        const std::size_t steps = (state.needed.count() + Pages - 1) / Pages;
        return page_count{steps * Pages};
    }
};

/// Grows by the factor `Num`/`Den`, so that n pages cost O(log n) calls; at most (Num − Den)/Num of the pages
/// are unused after growing. Shrinks to that factor above what is needed only when less than the factor's
/// square is used, so that a tensor that swings around a boundary does not map and unmap in turn.
template <std::size_t Num, std::size_t Den>
struct geometric {
    static_assert(Den > 0 && Num > Den, "the factor must be greater than one");

    [[nodiscard]] constexpr page_count target(const growth_state& state) const noexcept {
        if (state.needed > state.mapped)
            return std::max(state.needed, grown(state.mapped));
        const page_count roomy = grown(state.needed);
        return grown(roomy) < state.mapped ? roomy : state.mapped;
    }

  private:
    static constexpr page_count grown(page_count pages) noexcept {
        return page_count{(pages.count() * Num + Den - 1) / Den};
    }
};

/// Maps what is needed now, and has a mapper thread map ahead: `Pages` pages beyond that, asked for as soon
/// as fewer than half of them are left, so that a tensor that grows steadily never waits for a mapping.
template <std::size_t Pages>
struct look_ahead {
    static_assert(Pages > 0, "looking ahead by no pages is `exact`");

    /// Keeps what was mapped ahead when the tensor shrinks by less than that.
    [[nodiscard]] constexpr page_count target(const growth_state& state) const noexcept {
        return std::max(state.needed, std::min(state.mapped, state.needed + page_count{Pages}));
    }
    [[nodiscard]] constexpr page_count ahead(const growth_state& state) const noexcept {
        const bool enough = state.mapped >= state.needed + page_count{(Pages + 1) / 2};
        return enough ? state.mapped : state.needed + page_count{Pages};
    }
};

static_assert(growth_policy<exact>);
static_assert(growth_policy<fixed<4>>);
static_assert(growth_policy<geometric<3, 2>>);
static_assert(look_ahead_policy<look_ahead<2>>);
static_assert(!look_ahead_policy<exact>);

} // namespace vtensor::growth
