// SPDX-License-Identifier: Apache-2.0
//
// Sharing policies: how many of the whole pages of a common prefix are mapped a second time; the others are
// copied. Values without memory; the tensor maps and copies.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>

#include <algorithm>
#include <cstddef>

namespace vtensor::sharing {

/// Every whole page: the least memory.
struct map_all {
    [[nodiscard]] constexpr page_count pages(const sharing_state& state) const noexcept {
        return state.whole;
    }
};

/// No page: rows that will be written soon, or tensors that must not depend on each other.
struct copy_all {
    [[nodiscard]] constexpr page_count pages(const sharing_state&) const noexcept { return page_count{}; }
};

/// Maps where that is cheaper than copying, by what both cost on this pool (`measure_costs`) and by what the
/// saved memory is worth. So short prefixes are copied: where pages are mapped already, or queued work would
/// have to be waited for. All pages or none, because the cost of each is the same. Costs that are not known
/// are none: everything is mapped.
struct by_cost {
    defrag::costs measured{};
    double worth_of_byte = 0; ///< microseconds that a byte of memory saved may cost

    [[nodiscard]] constexpr page_count pages(const sharing_state& state) const noexcept {
        return !measured.known() || cost_of_mapping(state) <= cost_of_copying(state) ? state.whole
                                                                                     : page_count{};
    }

    /// Microseconds, for all the whole pages: they are mapped, and protected where they are not yet.
    [[nodiscard]] constexpr double cost_of_mapping(const sharing_state& state) const noexcept {
        const bool protects = state.writable > page_count{};
        const double runs = protects ? 2 : 1;
        return count(state.whole) * measured.remapped_page + runs * measured.remapped_run +
               (protects && state.behind_work ? measured.waited : 0);
    }
    /// Microseconds: pages are mapped where none are yet, and filled; their memory is not saved.
    [[nodiscard]] constexpr double cost_of_copying(const sharing_state& state) const noexcept {
        const page_count missing = state.whole > state.mapped ? state.whole - state.mapped : page_count{};
        const double size = static_cast<double>((state.whole * state.page).count());
        return size * (measured.copied_byte + worth_of_byte) + count(missing) * measured.remapped_page +
               (missing > page_count{} ? measured.remapped_run : 0);
    }

  private:
    static constexpr double count(page_count pages) noexcept { return static_cast<double>(pages.count()); }
};

/// As `Rule`, as long as no more than `aliases` references of the pool, beyond the first to each chunk, are
/// there afterwards. For a huge fan-out: aliases are mappings that the system cannot join with their
/// neighbours, and mappings have a ceiling.
template <sharing_policy Rule = map_all>
struct within {
    std::size_t aliases = 0;
    Rule rule{};

    [[nodiscard]] constexpr page_count pages(const sharing_state& state) const noexcept {
        const std::size_t left = aliases > state.aliases ? aliases - state.aliases : 0;
        return std::min(rule.pages(state), page_count{left});
    }
};
within(std::size_t)->within<>;
template <class Rule>
within(std::size_t, Rule) -> within<Rule>;

static_assert(sharing_policy<map_all>);
static_assert(sharing_policy<copy_all>);
static_assert(sharing_policy<by_cost>);
static_assert(sharing_policy<within<by_cost>>);

} // namespace vtensor::sharing
