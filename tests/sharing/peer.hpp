// SPDX-License-Identifier: Apache-2.0
//
// Starts the other process of the test and connects with it.
#pragma once

#include <support/catch.hpp>
#include <support/temporary_folder.hpp>

#include <vtensor/backends/os/unix_listener.hpp>

#include "shared_set.hpp"

#include <cerrno>
#include <csignal>
#include <string>
#include <utility>

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vtensor::testing {

/// A running peer_main.cpp in the given role. Killed at the end where it has not ended by itself.
class peer {
  public:
    explicit peer(std::string role) {
        const temporary_folder folder;
        std::string path = folder.file("meet");
        auto listener = unix_listener::listen(path);
        REQUIRE(listener);
        std::string program = VTENSOR_SHARING_PEER;
        char* const words[] = {program.data(), path.data(), role.data(), nullptr};
        REQUIRE(::posix_spawn(&process_, program.c_str(), nullptr, nullptr, words, environ) == 0);
        auto accepted = listener->accept(soon());
        REQUIRE(accepted);
        socket = *std::move(accepted);
    }
    peer(const peer&) = delete;
    peer& operator=(const peer&) = delete;
    ~peer() {
        if (process_ > 0) {
            ::kill(process_, SIGKILL);
            static_cast<void>(wait());
        }
    }

    /// Hangs up and waits for its end: its exit code, or 1000 + the signal.
    [[nodiscard]] int end() {
        socket = unix_socket{};
        return wait();
    }
    [[nodiscard]] int kill() {
        ::kill(process_, SIGKILL);
        return wait();
    }

    unix_socket socket;

  private:
    int wait() {
        int ended = 0;
        while (::waitpid(process_, &ended, 0) < 0 && errno == EINTR) {
        }
        process_ = -1;
        return WIFEXITED(ended) ? WEXITSTATUS(ended) : 1000 + WTERMSIG(ended);
    }

    pid_t process_ = -1;
};

} // namespace vtensor::testing
