// SPDX-License-Identifier: Apache-2.0
//
// Where processes that have no common parent meet: one listens at a path, the others connect to it. The path
// is open to the user of the listening process only.
#pragma once

#include <vtensor/backends/os/unix_socket.hpp>

#include <string_view>
#include <utility>

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vtensor {

/// A socket at a path of the file system, which goes with it. Moved, not copied; used by one thread at a
/// time.
class unix_listener {
  public:
    /// Creates the path, with access for this user alone. `invalid_argument` for a path that is empty, longer
    /// than 107 bytes or holds a zero byte; `native_failure` with EADDRINUSE where something is there.
    [[nodiscard]] static result<unix_listener> listen(std::string_view path) noexcept {
        const auto where = os::unix_path::make(path);
        if (!where)
            return error{errc::invalid_argument, verb::connect, 0, bytes{path.size()}};
        file_descriptor socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
        // The path gets the mode that the socket has when it is bound.
        if (!socket || ::fchmod(socket.number(), S_IRUSR | S_IWUSR) != 0 ||
            ::bind(socket.number(), where->get(), where->size()) != 0)
            return refused(errno);
        unix_listener made{std::move(socket), *where};
        if (::listen(made.socket_.number(), backlog) != 0)
            return refused(errno);
        return made;
    }

    unix_listener(unix_listener&& other) noexcept = default;
    unix_listener& operator=(unix_listener&&) = delete;
    ~unix_listener() {
        if (socket_)
            ::unlink(where_.text());
    }

    /// Waits for the next process that connects; `timed_out` where none did before `until`.
    [[nodiscard]] result<unix_socket> accept(wait_deadline until) noexcept {
        for (;;) {
            if (const status ready = os::wait_for(socket_, POLLIN, verb::connect, until); !ready)
                return ready;
            file_descriptor connected{::accept4(socket_.number(), nullptr, nullptr, SOCK_CLOEXEC)};
            if (connected)
                return unix_socket{std::move(connected)};
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                return os::socket_failure(verb::connect, errno);
        }
    }

  private:
    static constexpr int backlog = 16;

    unix_listener(file_descriptor socket, const os::unix_path& where) noexcept
        : socket_{std::move(socket)}, where_{where} {}

    static error refused(int native) noexcept {
        error failure = os::socket_failure(verb::connect, native);
        if (failure.code == errc::disconnected) // ENOENT: the folder is missing, not the other process
            failure.code = errc::native_failure;
        return failure;
    }

    file_descriptor socket_;
    os::unix_path where_;
};

} // namespace vtensor
