// SPDX-License-Identifier: Apache-2.0
//
// Two connected ends in one process: small messages wait in the kernel, so that one thread can send and then
// receive.
#pragma once

#include <support/catch.hpp>

#include <vtensor/backends/os/unix_socket.hpp>

#include <chrono>
#include <utility>

namespace vtensor::testing {

struct connection {
    connection() {
        auto made = unix_socket::pair();
        REQUIRE(made);
        sender = std::move(made->first);
        receiver = std::move(made->second);
    }
    unix_socket sender;
    unix_socket receiver;
};

/// Long enough for anything that happens, short enough for what does not.
[[nodiscard]] inline wait_deadline soon() noexcept { return within(std::chrono::seconds{20}); }
[[nodiscard]] inline wait_deadline at_once() noexcept { return within(std::chrono::milliseconds{5}); }

} // namespace vtensor::testing
