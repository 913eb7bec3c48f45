// SPDX-License-Identifier: Apache-2.0
//
// Makes this process run out of descriptors, for tests of what happens then. Nothing is checked meanwhile:
// sanitizers need descriptors to look at memory.
#pragma once

#include <support/catch.hpp>

#include <vtensor/backends/os/file_descriptor.hpp>

#include <fcntl.h>
#include <sys/resource.h>

namespace vtensor::testing {

/// For as long as it lives, only `room` descriptors can be opened beyond those that are open.
class descriptor_limit {
  public:
    explicit descriptor_limit(unsigned room) {
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
        // The limit is on numbers, and the lowest free one is always taken: below it lie `room` free ones.
        rlim_t limit = 0;
        for (unsigned free_ones = 0; free_ones < room || is_open(limit); ++limit)
            free_ones += is_open(limit) ? 0U : 1U;
        const rlimit lower{limit, before_.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &lower) == 0);
    }
    descriptor_limit(const descriptor_limit&) = delete;
    descriptor_limit& operator=(const descriptor_limit&) = delete;
    ~descriptor_limit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

  private:
    static bool is_open(rlim_t number) { return ::fcntl(static_cast<int>(number), F_GETFD) >= 0; }

    rlimit before_{};
};

} // namespace vtensor::testing
