// SPDX-License-Identifier: Apache-2.0
//
// The name of a full block of tokens for prefix caching: a hash of its tokens and of the name of the block
// before it, so that equal names mean equal prefixes (vLLM's documentation, "Automatic Prefix Caching").
#pragma once

#include "workload.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace vtensor::bench {

/// 128 bits, so that a collision need not be thought of.
struct block_key {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    friend bool operator==(const block_key&, const block_key&) = default;
};

struct block_key_hash {
    [[nodiscard]] std::size_t operator()(const block_key& key) const noexcept { return key.low; }
};

namespace detail {

/// Spreads every bit over all others and can be undone (the finaliser of SplitMix64; Steele et al. 2014).
[[nodiscard]] constexpr std::uint64_t spread(std::uint64_t bits) noexcept {
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
    return bits ^ (bits >> 31);
}

} // namespace detail

/// The name that stands before the first block.
[[nodiscard]] constexpr block_key first_key(std::uint64_t salt) noexcept {
    return {detail::spread(salt + 1), detail::spread(~salt)};
}

/// The name of the block with these tokens behind the one named `before`.
[[nodiscard]] constexpr block_key next_key(block_key before, std::span<const token_id> tokens) noexcept {
    for (const token_id token : tokens) {
        const auto value = static_cast<std::uint64_t>(static_cast<std::uint32_t>(token));
        before.low = detail::spread(before.low ^ (value + 0x9e3779b97f4a7c15));
        before.high = detail::spread(std::rotl(before.high, 23) + value);
    }
    return before;
}

} // namespace vtensor::bench
