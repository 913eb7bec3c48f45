// SPDX-License-Identifier: Apache-2.0
//
// What the conformance suite needs to know of a backend besides its verbs: how to make one, and how to touch
// its memory. docs/writing-a-backend.md shows how to write one for a backend of your own.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <concepts>
#include <cstddef>
#include <span>
#include <string>

namespace vtensor::conformance {

/// Default construction makes a fresh backend with at least 64 times its granularity of memory; destruction
/// ends it. `write` and `read` copy bytes to and from accessible addresses, however that backend does it.
template <class F>
concept fixture = std::constructible_from<F> && backend<typename F::backend_type> &&
    requires(F& made, address where, std::span<const std::byte> from, std::span<std::byte> to) {
    { made.backend() } -> std::same_as<typename F::backend_type&>;
    made.write(where, from);
    made.read(where, to);
};

/// Optional: whether touching `where` in the given way (read, or read_write for writing) faults. The probe
/// must survive it and change nothing.
template <class F>
concept touching_fixture = fixture<F> && requires(F& made, address where, access_mode how) {
    { made.faults(where, how) } -> std::same_as<bool>;
};

/// Optional: physical bytes that exist now, by a figure that is not the backend's own, such as the kernel's.
template <class F>
concept measuring_fixture = fixture<F> && requires(F& made) {
    { made.physical_bytes() } -> std::same_as<bytes>;
};

/// Optional: more than the backend can ever create. Without it the suite asks for a pebibyte.
template <class F>
concept bounded_fixture = fixture<F> && requires(F& made) {
    { made.too_much() } -> std::same_as<bytes>;
};

/// "map: already_mapped", or "ok": how a call ended, for comparing and for reading in a report.
[[nodiscard]] inline std::string ended(verb where, errc code) {
    return std::string{name(where)}.append(": ").append(name(code));
}
template <class Outcome>
[[nodiscard]] std::string ended(const Outcome& outcome) {
    return outcome.ok() ? std::string{"ok"} : ended(outcome.error().where, outcome.error().code);
}

} // namespace vtensor::conformance
