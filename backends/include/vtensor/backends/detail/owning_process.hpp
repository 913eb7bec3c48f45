// SPDX-License-Identifier: Apache-2.0
//
// Remembers which process opened a driver: a child of fork() inherits the tables and the handles, but not the
// device, and must not touch the driver.
#pragma once

#include <sys/types.h>
#include <unistd.h>

namespace vtensor::detail {

class owning_process {
  public:
    /// False in a child.
    [[nodiscard]] bool is_this() const noexcept { return ::getpid() == process_; }

  private:
    pid_t process_ = ::getpid();
};

} // namespace vtensor::detail
