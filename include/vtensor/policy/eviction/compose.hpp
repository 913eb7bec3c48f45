// SPDX-License-Identifier: Apache-2.0
//
// A policy made of parts. Each choice runs through them in one order, whatever order they are named in:
// guards → indicator → pooling → aggregation → protection → weighting → budget → selection.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/policy/eviction/aggregation.hpp>
#include <vtensor/policy/eviction/budget.hpp>
#include <vtensor/policy/eviction/detail/parts.hpp>
#include <vtensor/policy/eviction/detail/planes.hpp>
#include <vtensor/policy/eviction/guard.hpp>
#include <vtensor/policy/eviction/indicator.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>
#include <vtensor/policy/eviction/pooling.hpp>
#include <vtensor/policy/eviction/protection.hpp>
#include <vtensor/policy/eviction/schedule.hpp>
#include <vtensor/policy/eviction/selection.hpp>
#include <vtensor/policy/eviction/weighting.hpp>
#include <vtensor/policy/eviction/workspace.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <new>
#include <span>
#include <stdexcept>
#include <utility>

namespace vtensor::eviction {

/// The eviction policy of the parts given, in any order, at most one a category (guards: any number). What is
/// missing is position_only, mean, no pooling, no weighting, no protection, uniform, top_k and
/// once_after_prefill. A value: copies decide alike. Members of parts may be set at any time.
template <class... Parts>
class compose {
    using parts_type = typename detail::completed<Parts...>::type;
    template <class P>
    using part_type = typename parts_type::template part_type<P>;

  public:
    /// The widest scope of its parts.
    static constexpr eviction_scope scope = parts_type::widest_scope;

    constexpr compose() = default;
    constexpr explicit compose(Parts... parts) noexcept requires(sizeof...(Parts) > 0) {
        ((get<Parts>() = std::move(parts)), ...);
    }

    /// The part of a category (`get<part::budget>()`), or of a type (`get<guard::sinks<4>>()`).
    template <class P>
    [[nodiscard]] constexpr auto& get() noexcept {
        return parts_.template get<P>();
    }
    template <class P>
    [[nodiscard]] constexpr const auto& get() const noexcept {
        return parts_.template get<P>();
    }
    /// Calls visit(part) for every part, the ones that were not named too.
    template <class Visit>
    constexpr void for_each_part(Visit&& visit) {
        parts_.for_each(visit);
    }
    template <class Visit>
    constexpr void for_each_part(Visit&& visit) const {
        parts_.for_each(visit);
    }

    /// Sets the budget's amount, where it has one to set.
    constexpr void set_amount(const amount& wanted) noexcept {
        if constexpr (requires { get<part::budget>().amount = wanted; })
            get<part::budget>().amount = wanted;
    }
    /// Sets the length of the observation window and of the recent window, where the policy has them. A
    /// schedule's steps are set in the schedule.
    constexpr void set_window(std::size_t tokens) noexcept {
        if constexpr (requires { get<part::indicator>().queries = tokens; })
            get<part::indicator>().queries = tokens;
        for_each_part([&](auto& one) {
            if constexpr (requires {
                              one.window();
                              one.tokens = tokens;
                          })
                one.tokens = tokens;
        });
    }

    /// Sets the number of sinks, where the policy has them.
    constexpr void set_sinks(std::size_t tokens) noexcept {
        for_each_part([&](auto& one) {
            if constexpr (requires {
                              one.sink_positions();
                              one.tokens = tokens;
                          })
                one.tokens = tokens;
        });
    }

    /// What it wants to be shown of every layer.
    [[nodiscard]] constexpr evidence_needs needs() const noexcept {
        evidence_needs all;
        for_each_part([&](const auto& one) {
            if constexpr (requires { one.needs(); })
                all = all | one.needs();
        });
        return all;
    }
    /// Positions in the recent window: those that are not scored.
    [[nodiscard]] constexpr std::size_t window() const noexcept {
        std::size_t longest = 0;
        for_each_part([&](const auto& one) {
            if constexpr (requires { one.window(); })
                longest = std::max<std::size_t>(longest, one.window());
        });
        return longest;
    }
    /// Whether its schedule wants a choice now.
    [[nodiscard]] constexpr bool due(const progress& now) const noexcept {
        return get<part::schedule>().due(now);
    }

    /// Decides from `layers`, one entry a layer, which rows of every head stay. A policy of scope `tensor` or
    /// `layer` gives the same answer for a layer whatever others are given with it; one of scope `model`
    /// wants all layers at once. Guards stay whatever the budget is; dead rows never do. On an error `kept`
    /// is unchanged. Nothing is allocated once `memory` and `kept` have seen the largest problem. Errors:
    /// `invalid_argument` where evidence is missing or malformed (see workspace::lay_out), a member of a part
    /// is out of its domain, or the layers of a model have seen different numbers of tokens; `not_finite`
    /// where a score is; `out_of_memory`.
    status choose(std::span<const layer_evidence> layers, workspace& memory, kept_rows& kept) const noexcept {
        try {
            if (const status scored = score(layers, memory); !scored)
                return scored;
            select(memory.all_layers(), memory.all_heads(), memory.scratch());
            if (const status collected = memory.collect(); !collected)
                return collected;
        } catch (const std::bad_alloc&) {
            return failure(errc::out_of_memory);
        } catch (const std::length_error&) {
            return failure(errc::out_of_memory);
        }
        swap(memory.answer(), kept);
        return {};
    }

  private:
    static error failure(errc code) noexcept { return {.code = code, .where = verb::choose}; }

    [[nodiscard]] bool valid() const noexcept {
        bool all = true;
        for_each_part([&](const auto& one) {
            if constexpr (requires { one.valid(); })
                all = all && one.valid();
            if constexpr (requires { one.amount.valid(); })
                all = all && one.amount.valid();
        });
        return all;
    }

    status score(std::span<const layer_evidence> shown, workspace& memory) const {
        if (!valid())
            return failure(errc::invalid_argument);
        constexpr bool wants_mean = part_type<part::protection>::wants_mean;
        if (const status made = memory.lay_out(shown, needs(), window(), wants_mean); !made)
            return made;
        for (layer_columns& layer : memory.all_layers()) {
            if (scope == eviction_scope::model && layer.next_position != memory.all_layers()[0].next_position)
                return failure(errc::invalid_argument);
            mark_guards(layer);
            if (leads(layer) && !score(layer))
                return failure(errc::not_finite);
        }
        return {};
    }

    void mark_guards(layer_columns& layer) const noexcept {
        for (head_columns& head : layer.heads) {
            std::fill(head.kept.begin() + static_cast<std::ptrdiff_t>(head.scored), head.kept.end(),
                      std::uint8_t{1});
            for_each_part([&](const auto& one) {
                if constexpr (requires { one.keeps(position_type{}, position_type{}); })
                    for (std::size_t column = 0; column < head.scored; ++column)
                        head.kept[column] |=
                            static_cast<std::uint8_t>(one.keeps(head.position(column), head.next_position));
            });
        }
    }

    /// Whether the layer's own scores decide; a budget may let one layer decide for those behind it.
    [[nodiscard]] bool leads(const layer_columns& layer) const noexcept {
        if constexpr (requires { get<part::budget>().leads(layer); })
            return get<part::budget>().leads(layer);
        return true;
    }

    /// False where a score is not finite.
    bool score(layer_columns& layer) const {
        const auto& aggregation = get<part::aggregation>();
        if constexpr (requires { get<part::budget>().amount.fraction(layer.next_position); })
            layer.kept_fraction = get<part::budget>().amount.fraction(layer.next_position);
        for (head_columns& head : layer.heads) {
            const detail::planes planes{get<part::indicator>(), head, layer.scratch->row.data()};
            if (head.scored != 0 && !aggregation.reduce(planes, get<part::pooling>(), head, *layer.scratch))
                return false;
        }
        if constexpr (requires { aggregation.share(layer); })
            aggregation.share(layer);
        get<part::protection>().mark(layer);
        get<part::weighting>().apply(layer);
        float highest = std::numeric_limits<float>::lowest();
        for (const head_columns& head : layer.heads) {
            if (!detail::all_finite(head.scores.data(), head.scored))
                return false;
            highest = detail::largest(head.scores.data(), head.scored, highest);
        }
        for (head_columns& head : layer.heads)
            for (std::size_t column = 0; column < head.scored; ++column)
                head.scores[column] = head.raised[column] != 0 ? highest : head.scores[column];
        return true;
    }

    static std::size_t marked(std::span<const head_columns> heads) noexcept {
        std::size_t count = 0;
        for (const head_columns& head : heads)
            count += static_cast<std::size_t>(std::count(head.kept.begin(), head.kept.end(), 1));
        return count;
    }

    /// Marks so many columns of `heads` that `rows` are marked.
    void select(std::span<head_columns> heads, std::size_t rows, scratch_memory& scratch) const {
        const std::size_t already = marked(heads);
        if (rows > already)
            get<part::selection>().select(heads, rows - already, scratch);
    }

    void select(std::span<layer_columns> layers, std::span<head_columns> heads,
                scratch_memory& scratch) const {
        const auto& budget = get<part::budget>();
        using budget_type = part_type<part::budget>;
        using selection_type = part_type<part::selection>;
        if (layers.empty())
            return;
        for (layer_columns& layer : layers) {
            if constexpr (requires { selection_type::by_window; }) {
                static_assert(budget_type::sharing == sharing::head, "windows are chosen layer by layer");
                if (leads(layer))
                    get<part::selection>().decide(layer, budget.rows(layer));
                get<part::selection>().mark(layer);
            } else {
                if constexpr (requires { budget.least(layer); })
                    for (head_columns& head : layer.heads)
                        select({&head, 1}, budget.least(layer), scratch);
                if constexpr (budget_type::sharing == sharing::head)
                    for (head_columns& head : layer.heads)
                        select({&head, 1}, rows_of(head, budget.rows(layer)), scratch);
                else if constexpr (budget_type::sharing == sharing::layer)
                    select(layer.heads, budget.rows(layer), scratch);
            }
        }
        if constexpr (budget_type::sharing == sharing::model)
            select(heads, budget.rows(layers[0]), scratch);
    }

    /// A head's rows where a budget counts `rows` of them beyond the guards or with them.
    static std::size_t rows_of(const head_columns& head, std::size_t rows) noexcept {
        if constexpr (requires { part_type<part::budget>::beyond_guards; })
            return rows + marked({&head, 1});
        return rows;
    }

    parts_type parts_{};
};

} // namespace vtensor::eviction
