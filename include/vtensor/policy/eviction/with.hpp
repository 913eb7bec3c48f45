// SPDX-License-Identifier: Apache-2.0
//
// A composition with some of its parts exchanged.
#pragma once

#include <vtensor/policy/eviction/compose.hpp>

#include <type_traits>

namespace vtensor::eviction {

namespace detail {

/// `compose<Parts...>` without the parts whose category one of `New` has, and with `New`.
template <class Policy, class... New>
struct exchanged;
template <class... Parts, class... New>
struct exchanged<compose<Parts...>, New...> {
    template <class P>
    using stays_t =
        std::conditional_t<count_of<typename P::category, New...> == 0, part_list<P>, part_list<>>;

    template <class List>
    struct composed;
    template <class... All>
    struct composed<part_list<All...>> {
        using type = compose<All...>;
    };
    using type =
        typename composed<typename joined<part_list<>, stays_t<Parts>..., part_list<New...>>::type>::type;
};

} // namespace detail

/// `Policy` with the parts `New` in place of those of their categories: `with<snapkv<>, aggregate::max>`.
template <class Policy, class... New>
using with = typename detail::exchanged<Policy, New...>::type;

} // namespace vtensor::eviction
