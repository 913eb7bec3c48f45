// SPDX-License-Identifier: Apache-2.0
//
// A file descriptor with an owner: what the operating system passes between processes. It closes what it owns
// and does nothing else with it.
#pragma once

#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace vtensor {

/// Owns one descriptor, or none. Moved, never copied; closed with its owner. Used by one thread at a time.
class file_descriptor {
  public:
    file_descriptor() noexcept = default;
    /// Takes over `owned`; a negative number is no descriptor.
    explicit file_descriptor(int owned) noexcept : number_{owned < 0 ? -1 : owned} {}
    file_descriptor(file_descriptor&& other) noexcept : number_{other.release()} {}
    file_descriptor& operator=(file_descriptor&& other) noexcept {
        if (this != &other) {
            close();
            number_ = other.release();
        }
        return *this;
    }
    ~file_descriptor() { close(); }

    /// -1 where it owns none.
    [[nodiscard]] int number() const noexcept { return number_; }
    explicit operator bool() const noexcept { return number_ >= 0; }

    /// Gives the descriptor to the caller, who closes it.
    [[nodiscard]] int release() noexcept { return std::exchange(number_, -1); }

    /// A second descriptor of the same open file, closed on exec; none, and errno, where the system refuses.
    [[nodiscard]] file_descriptor duplicate() const noexcept {
        return file_descriptor{::fcntl(number_, F_DUPFD_CLOEXEC, 0)};
    }

  private:
    void close() noexcept {
        if (number_ >= 0)
            ::close(number_); // whatever it returns, the number is free afterwards
    }

    int number_ = -1;
};

} // namespace vtensor
