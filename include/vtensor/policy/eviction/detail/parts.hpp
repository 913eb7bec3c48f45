// SPDX-License-Identifier: Apache-2.0
//
// How a composition finds its parts: by category, completed by the defaults.
#pragma once

#include <vtensor/policy/eviction/aggregation.hpp>
#include <vtensor/policy/eviction/budget.hpp>
#include <vtensor/policy/eviction/indicator.hpp>
#include <vtensor/policy/eviction/part.hpp>
#include <vtensor/policy/eviction/pooling.hpp>
#include <vtensor/policy/eviction/protection.hpp>
#include <vtensor/policy/eviction/schedule.hpp>
#include <vtensor/policy/eviction/selection.hpp>
#include <vtensor/policy/eviction/weighting.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <iterator>
#include <tuple>
#include <type_traits>
#include <utility>

namespace vtensor::eviction::detail {

/// How many of the parts belong to the category, or are of the type.
template <class P, class... Parts>
inline constexpr std::size_t count_of =
    (std::size_t{0} + ... + std::size_t{std::same_as<P, Parts> || std::same_as<P, typename Parts::category>});

template <class P>
consteval eviction_scope scope_of() {
    if constexpr (requires { P::scope; })
        return P::scope;
    else
        return eviction_scope::tensor;
}

template <std::size_t Index, class P>
struct numbered_part {
    P value{};
};

template <class Indices, class... Parts>
struct numbered_parts;
template <std::size_t... Indices, class... Parts>
struct numbered_parts<std::index_sequence<Indices...>, Parts...> : numbered_part<Indices, Parts>... {};

/// A list of parts, each with bytes of its own. (A std::tuple lets empty ones share bytes with others, and
/// GCC 12 zeroes those when an empty part has a base class.)
template <class... Parts>
struct part_list : numbered_parts<std::index_sequence_for<Parts...>, Parts...> {
    static constexpr eviction_scope widest_scope = std::max({eviction_scope::tensor, scope_of<Parts>()...});

    /// Where the part of a category, or of a type, is.
    template <class P>
    static consteval std::size_t index_of() {
        static_assert(count_of<P, Parts...> >= 1, "the policy has no such part");
        static_assert(count_of<P, Parts...> <= 1, "the policy has several such parts: name the type");
        constexpr bool found[] = {(std::same_as<P, Parts> || std::same_as<P, typename Parts::category>)...};
        return static_cast<std::size_t>(std::find(std::begin(found), std::end(found), true) -
                                        std::begin(found));
    }
    template <class P>
    using part_type = std::tuple_element_t<index_of<P>(), std::tuple<Parts...>>;

    template <class P>
    [[nodiscard]] constexpr part_type<P>& get() noexcept {
        return static_cast<numbered_part<index_of<P>(), part_type<P>>&>(*this).value;
    }
    template <class P>
    [[nodiscard]] constexpr const part_type<P>& get() const noexcept {
        return static_cast<const numbered_part<index_of<P>(), part_type<P>>&>(*this).value;
    }
    template <class Visit>
    constexpr void for_each(Visit&& visit) {
        (visit(get<Parts>()), ...);
    }
    template <class Visit>
    constexpr void for_each(Visit&& visit) const {
        (visit(get<Parts>()), ...);
    }
};

template <class... Lists>
struct joined;
template <class... Parts>
struct joined<part_list<Parts...>> {
    using type = part_list<Parts...>;
};
template <class... A, class... B, class... Rest>
struct joined<part_list<A...>, part_list<B...>, Rest...> : joined<part_list<A..., B...>, Rest...> {};

/// The default where no part belongs to its category.
template <class Default, class... Parts>
using missing_t =
    std::conditional_t<count_of<typename Default::category, Parts...> == 0, part_list<Default>, part_list<>>;

/// The parts and the defaults of the categories that they leave out.
template <class... Parts>
struct completed {
    static_assert(count_of<part::indicator, Parts...> <= 1, "one indicator a policy");
    static_assert(count_of<part::aggregation, Parts...> <= 1, "one aggregation a policy");
    static_assert(count_of<part::pooling, Parts...> <= 1, "one pooling a policy");
    static_assert(count_of<part::weighting, Parts...> <= 1, "one weighting a policy");
    static_assert(count_of<part::protection, Parts...> <= 1, "one protection a policy");
    static_assert(count_of<part::budget, Parts...> <= 1, "one budget a policy");
    static_assert(count_of<part::selection, Parts...> <= 1, "one selection a policy");
    static_assert(count_of<part::schedule, Parts...> <= 1, "one schedule a policy");

    using type =
        typename joined<part_list<Parts...>, missing_t<indicator::position_only, Parts...>,
                        missing_t<aggregate::mean, Parts...>, missing_t<pooling::none, Parts...>,
                        missing_t<weighting::none, Parts...>, missing_t<protection::none, Parts...>,
                        missing_t<budget::uniform<>, Parts...>, missing_t<selection::top_k, Parts...>,
                        missing_t<schedule::once_after_prefill, Parts...>>::type;
};

} // namespace vtensor::eviction::detail
