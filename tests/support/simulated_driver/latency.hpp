// SPDX-License-Identifier: Apache-2.0
//
// How long the verbs of real devices take, so that a benchmark over the simulation shows the shape of the
// thing. Nothing here was measured by this project: the figures are what others published for 2 MiB pages,
// and what is measured with them must be called simulated.
#pragma once

#include <chrono>
#include <cmath>
#include <cstddef>
#include <string_view>

namespace vtensor::testing::simulated {

/// Microseconds of each verb for one 2 MiB page. A verb without a published figure takes no time.
struct latencies {
    std::string_view source;
    double reserve = 0;
    double create = 0;
    double map = 0;
    double set_access = 0;           ///< of a call, with its first mapping
    double set_access_each_more = 0; ///< of every further mapping in the call: never published, 0 is a guess
    double unmap = 0;                ///< of a call, with its first mapping
    double unmap_each_more = 0;      ///< as above
    double release = 0;

    [[nodiscard]] constexpr bool off() const noexcept { return source.empty(); }
};

/// Others' figures; a verb they did not publish is 0.
inline constexpr latencies published_a100{.source = "A100, as published by others",
                                          .reserve = 19,
                                          .create = 193,
                                          .map = 1.5,
                                          .set_access = 36,
                                          .unmap = 26};
inline constexpr latencies published_h100{.source = "H100, as published by others (self-reported)",
                                          .create = 19,
                                          .map = 1.4,
                                          .set_access = 67,
                                          .unmap = 38,
                                          .release = 35};
inline constexpr latencies published_other{.source = "a GPU that was not named, as published by others",
                                           .create = 7.6,
                                           .map = 1.1,
                                           .set_access = 21,
                                           .unmap = 11.5};

/// How much dearer a piece of `bytes` is than one of 2 MiB: 64 MiB were published as about 10 times as dear
/// to map, which is the power of the size taken here for every verb that works on one piece.
[[nodiscard]] inline double size_factor(std::size_t bytes) noexcept {
    constexpr double page = 2.0 * 1024 * 1024;
    constexpr double exponent = 0.664; // log 10 / log 32
    return bytes <= static_cast<std::size_t>(page) ? 1.0
                                                   : std::pow(static_cast<double>(bytes) / page, exponent);
}

/// Spends that many microseconds on the processor, as a driver call does.
inline void spend(double microseconds) noexcept {
    if (microseconds <= 0)
        return;
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::duration<double, std::micro>(microseconds);
    while (std::chrono::steady_clock::now() < end) {
    }
}

} // namespace vtensor::testing::simulated
