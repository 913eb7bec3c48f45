// SPDX-License-Identifier: Apache-2.0
//
// Waiting for another process with a limit, and what its absence is called.
#pragma once

#include <vtensor/backends/os/file_descriptor.hpp>
#include <vtensor/core/error.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <limits>

#include <poll.h>

namespace vtensor {

/// When waiting ends.
using wait_deadline = std::chrono::steady_clock::time_point;

/// The deadline that far from now.
[[nodiscard]] inline wait_deadline within(std::chrono::milliseconds limit) noexcept {
    return std::chrono::steady_clock::now() + limit;
}

namespace os {

/// What an errno of a socket means.
[[nodiscard]] inline error socket_failure(verb where, int native) noexcept {
    switch (native) {
    case EPIPE:
    case ECONNRESET:
    case ECONNREFUSED:
    case ENOTCONN:
    case ENOENT: // nobody listens at the path
        return {errc::disconnected, where, native, bytes{}};
    case EMFILE:
    case ENFILE:
    case ETOOMANYREFS: // more descriptors under way than the process may have open
        return {errc::limit_exceeded, where, native, bytes{}};
    case ENOMEM:
    case ENOBUFS:
        return {errc::out_of_memory, where, native, bytes{}};
    default:
        return {errc::native_failure, where, native, bytes{}};
    }
}

/// What is left until the deadline, rounded up; 0 where it has passed.
template <class Duration>
[[nodiscard]] Duration left_until(wait_deadline until) noexcept {
    const auto now = std::chrono::steady_clock::now();
    return until <= now ? Duration{0} : std::chrono::ceil<Duration>(until - now);
}

/// Waits until the socket is ready for `events`, or has failed, which the next call on it will tell. Asks
/// once where the deadline has passed.
[[nodiscard]] inline status wait_for(const file_descriptor& socket, short events, verb where,
                                     wait_deadline until) noexcept {
    using std::chrono::milliseconds;
    if (!socket)
        return error{errc::disconnected, where, ENOTCONN, bytes{}};
    for (;;) {
        const milliseconds::rep left = left_until<milliseconds>(until).count();
        constexpr milliseconds::rep most = std::numeric_limits<int>::max();
        pollfd polled{socket.number(), events, 0};
        const int ready = ::poll(&polled, 1, static_cast<int>(std::min(left, most)));
        if (ready > 0)
            return {};
        if (ready < 0 && errno != EINTR)
            return socket_failure(where, errno);
        if (left == 0)
            return error{errc::timed_out, where, ETIMEDOUT, bytes{}};
    }
}

} // namespace os
} // namespace vtensor
