// SPDX-License-Identifier: Apache-2.0
//
// A path of the file system as the address of a Unix socket. It touches no file.
#pragma once

#include <cstring>
#include <optional>
#include <string_view>

#include <sys/socket.h>
#include <sys/un.h>

namespace vtensor::os {

/// At most 107 bytes, none of them zero.
class unix_path {
  public:
    /// Nothing for a path that is empty, too long, or holds a zero byte.
    [[nodiscard]] static std::optional<unix_path> make(std::string_view path) noexcept {
        unix_path made;
        if (path.empty() || path.size() >= sizeof made.where_.sun_path ||
            path.find('\0') != std::string_view::npos)
            return std::nullopt;
        std::memcpy(made.where_.sun_path, path.data(), path.size());
        return made;
    }

    [[nodiscard]] const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&where_); }
    [[nodiscard]] socklen_t size() const noexcept { return sizeof where_; }
    [[nodiscard]] const char* text() const noexcept { return where_.sun_path; }

  private:
    unix_path() noexcept { where_.sun_family = AF_UNIX; }

    sockaddr_un where_{};
};

} // namespace vtensor::os
