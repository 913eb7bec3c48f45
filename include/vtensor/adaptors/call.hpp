// SPDX-License-Identifier: Apache-2.0
//
// What an adaptor sees of one call of a verb, and sets of verbs to choose calls by. Plain values.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace vtensor::adaptors {

/// One call of a backend's verb. The queries (`granularity`, `can_alias`, ...) are no calls. What the backend
/// answers, the address of `reserve` and the number of a new chunk, is there once the call has succeeded.
struct call {
    verb what = verb::none;
    address where{}; ///< the first address concerned; null for a verb that takes none
    bytes size{};    ///< bytes asked for, or of the chunk; 0 where no size is known
    /// The chunk concerned: 1 for the first that was created or imported through this adaptor, 2 for the
    /// next. No number is given twice, though handles are; 0 for a verb without a chunk, or an unknown one.
    std::uint64_t chunk = 0;
    access_mode allowed = access_mode::none; ///< what an access verb allows
};

/// How many values `verb` has for backends, `none` included: they are the first ones.
inline constexpr std::size_t backend_verbs = static_cast<std::size_t>(verb::set_peer_access) + 1;

/// A set of backend verbs.
class verb_set {
  public:
    constexpr verb_set(std::initializer_list<verb> chosen) noexcept {
        for (const verb what : chosen)
            bits_ |= bit(what);
    }

    [[nodiscard]] static constexpr verb_set all() noexcept {
        verb_set every{};
        every.bits_ = ~std::uint64_t{0};
        return every;
    }

    [[nodiscard]] constexpr bool contains(verb what) const noexcept { return (bits_ & bit(what)) != 0; }

    friend constexpr bool operator==(verb_set, verb_set) noexcept = default;

  private:
    static constexpr std::uint64_t bit(verb what) noexcept {
        return std::uint64_t{1} << static_cast<unsigned>(what);
    }

    std::uint64_t bits_ = 0;
};

} // namespace vtensor::adaptors
