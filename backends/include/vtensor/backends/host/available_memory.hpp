// SPDX-License-Identifier: Apache-2.0
//
// How much memory the system can still give, by its own figures. Only reads; a file that is missing or
// unreadable counts as no limit.
#pragma once

#include <vtensor/core/units.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>

namespace vtensor::host {

namespace detail {

inline constexpr bytes unlimited{std::numeric_limits<std::size_t>::max()};

/// The number after `key` in a file ("" for the first word); `unlimited` where there is none.
[[nodiscard]] inline std::size_t read_number(const char* path, const char* key) noexcept {
    std::FILE* const file = std::fopen(path, "re");
    if (file == nullptr)
        return unlimited.count();
    char line[256];
    const std::size_t length = std::strlen(key);
    std::size_t value = unlimited.count();
    while (std::fgets(line, sizeof line, file) != nullptr) {
        if (std::strncmp(line, key, length) == 0) {
            if (std::sscanf(line + length, "%zu", &value) != 1)
                value = unlimited.count();
            break;
        }
    }
    std::fclose(file);
    return value;
}

} // namespace detail

/// What may still be taken without the kernel having to kill somebody: MemAvailable of /proc/meminfo, and the
/// rest of a memory limit of the container. About 20 µs.
[[nodiscard]] inline bytes available_memory() noexcept {
    const std::size_t kib = detail::read_number("/proc/meminfo", "MemAvailable:");
    bytes available = kib == detail::unlimited.count() ? detail::unlimited : bytes{kib} * 1024;
    const std::size_t limit = detail::read_number("/sys/fs/cgroup/memory.max", "");
    const std::size_t used = detail::read_number("/sys/fs/cgroup/memory.current", "");
    if (limit != detail::unlimited.count() && used != detail::unlimited.count())
        available = std::min(available, bytes{limit > used ? limit - used : 0});
    return available;
}

} // namespace vtensor::host
