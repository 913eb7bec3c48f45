// SPDX-License-Identifier: Apache-2.0
//
// How a verb of a device backend begins: one thread at a time, in the process that opened the device, and
// with the device current for the calling thread. A child of fork() may have inherited the mutex locked, and
// the books in the middle of a change: it leaves both alone.
#pragma once

#include <vtensor/backends/detail/owning_process.hpp>
#include <vtensor/core/concepts.hpp>

#include <mutex>

namespace vtensor::detail {

template <class Api>
class device_session {
  public:
    device_session(std::mutex& mutex, const owning_process& process, Api& api) noexcept
        : here_{process.is_this()},
          lock_{here_ ? std::unique_lock{mutex} : std::unique_lock<std::mutex>{}},
          scope_{api, here_} {}
    device_session(const device_session&) = delete;
    device_session& operator=(const device_session&) = delete;

    /// Asked before anything else.
    [[nodiscard]] bool ok() const noexcept { return here_ && scope_.failed() == 0; }
    /// Why not.
    [[nodiscard]] error failure(verb where, bytes size) const noexcept {
        return here_ ? error{Api::classify(scope_.failed()), where, scope_.failed(), size}
                     : error{errc::no_device, where, 0, size};
    }

  private:
    bool here_;
    std::unique_lock<std::mutex> lock_;
    typename Api::current scope_;
};

} // namespace vtensor::detail
