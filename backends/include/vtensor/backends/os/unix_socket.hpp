// SPDX-License-Identifier: Apache-2.0
//
// A connection between two processes of one machine that carries whole messages and, with a message,
// descriptors. It knows nothing of what they mean and believes nothing that comes in: messages that do not
// fit are refused, and descriptors that nobody asked for are closed. It never raises SIGPIPE.
#pragma once

#include <vtensor/backends/os/file_descriptor.hpp>
#include <vtensor/backends/os/unix_path.hpp>
#include <vtensor/backends/os/wait.hpp>
#include <vtensor/core/error.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace vtensor {

/// One end of a Unix socket of the type SOCK_SEQPACKET. Used by one thread at a time.
class unix_socket {
  public:
    /// The most descriptors that one message can carry; the kernel's own limit (SCM_MAX_FD).
    static constexpr std::size_t max_descriptors = 253;

    /// What came with a message.
    struct message {
        std::size_t size = 0;        ///< bytes
        std::size_t descriptors = 0; ///< how many
    };

    /// No connection: every use of it is `errc::disconnected`.
    unix_socket() noexcept = default;

    /// Two ends that are connected to each other, for instance one to be kept and one for a child process.
    [[nodiscard]] static result<std::pair<unix_socket, unix_socket>> pair() noexcept {
        int ends[2];
        if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
            return os::socket_failure(verb::connect, errno);
        return std::pair{unix_socket{file_descriptor{ends[0]}}, unix_socket{file_descriptor{ends[1]}}};
    }

    /// Connects to a `unix_listener`. `invalid_argument` where the path can be none, `disconnected` where
    /// nobody listens there, `timed_out` where the listener has too many others to accept first.
    [[nodiscard]] static result<unix_socket> connect(std::string_view path, wait_deadline until) noexcept {
        const auto where = os::unix_path::make(path);
        if (!where)
            return error{errc::invalid_argument, verb::connect, 0, bytes{path.size()}};
        file_descriptor socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
        if (!socket)
            return os::socket_failure(verb::connect, errno);
        while (limit_waiting(socket, until)) {
            if (::connect(socket.number(), where->get(), where->size()) == 0)
                return unix_socket{std::move(socket)};
            if (errno != EINTR && errno != EAGAIN)
                return os::socket_failure(verb::connect, errno);
        }
        return error{errc::timed_out, verb::connect, ETIMEDOUT, bytes{}};
    }

    /// Takes over a descriptor that came from elsewhere. `invalid_argument`, and it is closed, where it is no
    /// connected Unix socket that keeps messages apart.
    [[nodiscard]] static result<unix_socket> adopt(file_descriptor connected) noexcept {
        sockaddr_storage peer{};
        socklen_t length = sizeof peer;
        if (option(connected.number(), SO_DOMAIN) != AF_UNIX ||
            option(connected.number(), SO_TYPE) != SOCK_SEQPACKET ||
            ::getpeername(connected.number(), reinterpret_cast<sockaddr*>(&peer), &length) != 0)
            return error{errc::invalid_argument, verb::connect, 0, bytes{}};
        return unix_socket{std::move(connected)};
    }

    [[nodiscard]] const file_descriptor& descriptor() const noexcept { return socket_; }

    /// Sends one message, of at least one byte, with copies of up to `max_descriptors` descriptors: all of it
    /// or nothing. `timed_out` where the other end does not make room before `until`.
    [[nodiscard]] status send(std::span<const std::byte> content, std::span<const int> descriptors,
                              wait_deadline until) noexcept {
        if (content.empty() || descriptors.size() > max_descriptors)
            return error{errc::invalid_argument, verb::send, 0, bytes{content.size()}};
        iovec part{const_cast<std::byte*>(content.data()), content.size()}; // sendmsg only reads
        alignas(cmsghdr) std::array<std::byte, control_size> control{};
        msghdr whole{};
        whole.msg_iov = &part;
        whole.msg_iovlen = 1;
        if (!descriptors.empty()) {
            whole.msg_control = control.data();
            whole.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
            cmsghdr* const carrier = CMSG_FIRSTHDR(&whole);
            carrier->cmsg_level = SOL_SOCKET;
            carrier->cmsg_type = SCM_RIGHTS;
            carrier->cmsg_len = CMSG_LEN(descriptors.size_bytes());
            std::memcpy(CMSG_DATA(carrier), descriptors.data(), descriptors.size_bytes());
        }
        for (;;) {
            if (const status ready = os::wait_for(socket_, POLLOUT, verb::send, until); !ready)
                return ready;
            if (::sendmsg(socket_.number(), &whole, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
                return {};
            if (errno != EAGAIN && errno != EINTR)
                return os::socket_failure(verb::send, errno);
        }
    }

    /// Receives one message into `content`, and its descriptors, closed on exec, into `descriptors`. Refused,
    /// and everything that came with it closed, are a message that is longer or has more descriptors
    /// (`malformed_message`), and one whose descriptors this process has no room for (`limit_exceeded`,
    /// EMFILE). `disconnected` where the other end is closed, `timed_out` where nothing came before `until`.
    [[nodiscard]] result<message> receive(std::span<std::byte> content,
                                          std::span<file_descriptor> descriptors,
                                          wait_deadline until) noexcept {
        for (;;) {
            if (const status ready = os::wait_for(socket_, POLLIN, verb::receive, until); !ready)
                return ready;
            iovec part{content.data(), content.size()};
            alignas(cmsghdr) std::array<std::byte, control_size> control;
            msghdr whole{};
            whole.msg_iov = &part;
            whole.msg_iovlen = 1;
            whole.msg_control = control.data();
            whole.msg_controllen = control.size();
            const ssize_t size = ::recvmsg(socket_.number(), &whole, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
            if (size >= 0)
                return accept_message(whole, static_cast<std::size_t>(size), descriptors);
            if (errno != EAGAIN && errno != EINTR)
                return os::socket_failure(verb::receive, errno);
        }
    }

  private:
    friend class unix_listener;

    /// Room for the descriptors, and for the sender's credentials where a socket was set to bring them.
    static constexpr std::size_t control_size = CMSG_SPACE(max_descriptors * sizeof(int)) + 256;

    explicit unix_socket(file_descriptor connected) noexcept : socket_{std::move(connected)} {}

    static int option(int socket, int name) noexcept {
        int value = -1;
        socklen_t length = sizeof value;
        return ::getsockopt(socket, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
    }

    /// The kernel bounds waiting in `connect` by the time allowed for sending. False where none is left.
    static bool limit_waiting(const file_descriptor& socket, wait_deadline until) noexcept {
        const auto left = os::left_until<std::chrono::microseconds>(until).count();
        const timeval limit{static_cast<time_t>(left / 1'000'000),
                            static_cast<suseconds_t>(left % 1'000'000)};
        return left > 0 && ::setsockopt(socket.number(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0;
    }

    /// Owns every descriptor of the message before it looks at anything else: what is refused is closed.
    [[nodiscard]] static result<message> accept_message(msghdr& whole, std::size_t size,
                                                        std::span<file_descriptor> descriptors) noexcept {
        std::array<file_descriptor, max_descriptors> taken;
        std::size_t count = 0;
        for (cmsghdr* each = CMSG_FIRSTHDR(&whole); each != nullptr; each = CMSG_NXTHDR(&whole, each)) {
            if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS)
                continue;
            const std::size_t carried = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (std::size_t index = 0; index < carried; ++index) {
                int number = -1;
                std::memcpy(&number, CMSG_DATA(each) + index * sizeof number, sizeof number);
                file_descriptor owned{number};
                if (count < taken.size())
                    taken[count++] = std::move(owned);
            }
        }
        if ((whole.msg_flags & MSG_CTRUNC) != 0) // there is room for all that the kernel sends: it had none
            return error{errc::limit_exceeded, verb::receive, EMFILE, bytes{}};
        if ((whole.msg_flags & MSG_TRUNC) != 0 || count > descriptors.size() || (size == 0 && count != 0))
            return error{errc::malformed_message, verb::receive, 0, bytes{size}};
        if (size == 0)
            return error{errc::disconnected, verb::receive, 0, bytes{}};
        std::move(taken.begin(), taken.begin() + static_cast<std::ptrdiff_t>(count), descriptors.begin());
        return message{size, count};
    }

    file_descriptor socket_;
};

} // namespace vtensor
