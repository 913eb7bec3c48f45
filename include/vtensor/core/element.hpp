// SPDX-License-Identifier: Apache-2.0
//
// The 16-bit storage types of KV caches. They hold bits and convert to and from float; they do no arithmetic,
// because every kernel accumulates in float32. Layout-compatible with IEEE binary16 and with the upper half
// of a binary32, so a kernel may read them as `__half` or `__nv_bfloat16`.
#pragma once

#include <vtensor/core/config.hpp>

#include <cstdint>
#include <type_traits>

namespace vtensor {

/// What a virtual tensor may hold: copied by bytes, because its pages are remapped and shared.
template <class T>
concept element = std::is_trivially_copyable_v<T> && std::is_object_v<T> && !std::is_const_v<T>;

// __builtin_bit_cast is what std::bit_cast is made of; unlike it, it is also a device function under nvcc.

/// IEEE 754 binary16, storage only.
struct float16 {
    std::uint16_t bits = 0;

    friend constexpr bool operator==(float16, float16) noexcept = default;
};

/// The upper 16 bits of a binary32 ("brain float"), storage only.
struct bfloat16 {
    std::uint16_t bits = 0;

    friend constexpr bool operator==(bfloat16, bfloat16) noexcept = default;
};

[[nodiscard]] VTENSOR_HOST_DEVICE constexpr float to_float(float value) noexcept { return value; }

[[nodiscard]] VTENSOR_HOST_DEVICE constexpr float to_float(bfloat16 value) noexcept {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(value.bits) << 16);
}

/// Exact: every binary16 value, subnormals, infinities and NaN included, is a binary32 value.
[[nodiscard]] VTENSOR_HOST_DEVICE constexpr float to_float(float16 value) noexcept {
    const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
    const std::uint32_t magnitude = value.bits & 0x7FFFu;
    if (magnitude >= 0x7C00u) // infinity, NaN
        return __builtin_bit_cast(float, sign | 0x7F800000u | ((magnitude & 0x03FFu) << 13));
    if (magnitude < 0x0400u) { // zero and subnormals: units of 2^-24
        const float unsigned_value = static_cast<float>(magnitude) * 0x1p-24f;
        return sign != 0 ? -unsigned_value : unsigned_value;
    }
    return __builtin_bit_cast(float, sign | ((magnitude << 13) + 0x38000000u));
}

namespace detail {

/// `value` shifted right by `shift`, rounded to nearest, ties to even.
[[nodiscard]] VTENSOR_HOST_DEVICE constexpr std::uint32_t shift_right_to_even(std::uint32_t value,
                                                                              unsigned shift) noexcept {
    const std::uint32_t kept = value >> shift;
    const std::uint32_t lost = value & ((1u << shift) - 1u);
    const std::uint32_t half = 1u << (shift - 1u);
    return kept + ((lost > half || (lost == half && (kept & 1u) != 0)) ? 1u : 0u);
}

} // namespace detail

/// The element nearest to `value` (ties to even); beyond the largest finite value it is infinity, NaN stays
/// NaN.
template <class T>
[[nodiscard]] VTENSOR_HOST_DEVICE constexpr T from_float(float value) noexcept {
    if constexpr (std::is_same_v<T, float>) {
        return value;
    } else if constexpr (std::is_same_v<T, bfloat16>) {
        const auto bits = __builtin_bit_cast(std::uint32_t, value);
        if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
            return bfloat16{static_cast<std::uint16_t>((bits >> 16) | 0x0040u)};
        return bfloat16{static_cast<std::uint16_t>(detail::shift_right_to_even(bits, 16))};
    } else {
        static_assert(std::is_same_v<T, float16>, "elements of attention are float, float16 or bfloat16");
        const auto bits = __builtin_bit_cast(std::uint32_t, value);
        const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
        const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
        if (magnitude > 0x7F800000u)
            return float16{static_cast<std::uint16_t>(sign | 0x7E00u)};
        if (magnitude >= 0x47800000u) // 65,536 and more
            return float16{static_cast<std::uint16_t>(sign | 0x7C00u)};
        if (magnitude >= 0x38800000u) // normal: a carry out of the mantissa rightly raises the exponent
            return float16{
                static_cast<std::uint16_t>(sign | detail::shift_right_to_even(magnitude - 0x38000000u, 13))};
        if (magnitude < 0x33000000u) // below half of the smallest subnormal
            return float16{sign};
        const std::uint32_t mantissa = (magnitude & 0x007FFFFFu) | 0x00800000u;
        const unsigned shift = 126u - (magnitude >> 23);
        return float16{static_cast<std::uint16_t>(sign | detail::shift_right_to_even(mantissa, shift))};
    }
}

} // namespace vtensor
