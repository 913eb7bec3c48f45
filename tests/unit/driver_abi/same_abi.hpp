// SPDX-License-Identifier: Apache-2.0
//
// Whether two types look the same to a caller in machine code: our own declaration of a driver's entry and
// the one in the driver's header.
#pragma once

#include <type_traits>

namespace vtensor::testing {

/// Specialised to true for a structure of ours whose layout has been compared with one of theirs.
template <class Ours, class Theirs>
inline constexpr bool same_layout = false;

template <class Ours, class Theirs>
constexpr bool same_types() noexcept;

namespace detail {

template <class Ours, class Theirs>
struct same_function : std::false_type {};

template <class Ours, class Theirs, class... OurArguments, class... TheirArguments>
requires(sizeof...(OurArguments) ==
         sizeof...(TheirArguments)) struct same_function<Ours(OurArguments...), Theirs(TheirArguments...)>
    : std::bool_constant<same_types<Ours, Theirs>() && (same_types<OurArguments, TheirArguments>() && ...)> {
};

} // namespace detail

template <class Ours, class Theirs>
constexpr bool same_types() noexcept {
    if constexpr (std::is_same_v<Ours, Theirs> || same_layout<Ours, Theirs>)
        return true;
    else if constexpr (std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>)
        return same_types<std::remove_pointer_t<Ours>, std::remove_pointer_t<Theirs>>();
    else if constexpr (std::is_const_v<Ours> && std::is_const_v<Theirs>)
        return same_types<std::remove_const_t<Ours>, std::remove_const_t<Theirs>>();
    else if constexpr (std::is_function_v<Ours> && std::is_function_v<Theirs>)
        return detail::same_function<Ours, Theirs>::value;
    else if constexpr (std::is_integral_v<Ours> && std::is_enum_v<Theirs>)
        return sizeof(Ours) == sizeof(Theirs);
    else
        return false;
}

/// True where an `Ours` can be passed for a `Theirs`: the same type, an integer for an enumeration of its
/// size, a structure whose layout was compared; and pointers to and functions of such.
template <class Ours, class Theirs>
inline constexpr bool same_abi = same_types<Ours, Theirs>();

} // namespace vtensor::testing
