// SPDX-License-Identifier: Apache-2.0
//
// The kernel's own account of this process: its mappings from /proc/self/maps and its open descriptors from
// /proc/self/fd. The independent truth that tests compare the library's figures with; it knows nothing of the
// library but the name of the host backend's memory file.
#pragma once

#include <vtensor/core/units.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

namespace vtensor::testing {

/// One line of /proc/self/maps.
struct map_line {
    std::uintptr_t first = 0;
    std::uintptr_t last = 0; ///< one past the end
    char permissions[5] = {};
    bool memory_file = false; ///< backed by a memory file of a host backend

    /// Bytes of the line that lie in [where, where + size).
    [[nodiscard]] std::size_t inside(address where, bytes size) const noexcept {
        const std::uintptr_t from = std::max(first, where.value());
        const std::uintptr_t to = std::min(last, where.value() + size.count());
        return from < to ? to - from : 0;
    }
};

namespace detail {

inline std::string read_whole(const char* path) {
    std::string text;
    const int descriptor = ::open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return text;
    std::size_t used = 0;
    for (;;) {
        text.resize(used + (std::size_t{1} << 16));
        const ssize_t got = ::read(descriptor, text.data() + used, text.size() - used);
        if (got <= 0)
            break;
        used += static_cast<std::size_t>(got);
    }
    ::close(descriptor);
    text.resize(used);
    return text;
}

inline std::uintptr_t read_hex(const char*& at) noexcept {
    std::uintptr_t value = 0;
    for (;; ++at) {
        const char digit = *at;
        if (digit >= '0' && digit <= '9')
            value = value * 16 + static_cast<std::uintptr_t>(digit - '0');
        else if (digit >= 'a' && digit <= 'f')
            value = value * 16 + static_cast<std::uintptr_t>(digit - 'a' + 10);
        else
            return value;
    }
}

} // namespace detail

/// Every mapping of the process, in ascending order.
[[nodiscard]] inline std::vector<map_line> read_maps() {
    const std::string text = detail::read_whole("/proc/self/maps");
    std::vector<map_line> lines;
    for (std::size_t start = 0; start < text.size();) {
        const std::size_t end = std::min(text.find('\n', start), text.size());
        const char* at = text.c_str() + start;
        map_line line;
        line.first = detail::read_hex(at);
        ++at; // '-'
        line.last = detail::read_hex(at);
        ++at; // ' '
        std::memcpy(line.permissions, at, 4);
        const std::string rest = text.substr(start, end - start);
        line.memory_file = rest.find("/memfd:vtensor") != std::string::npos;
        lines.push_back(line);
        start = end + 1;
    }
    return lines;
}

/// What the kernel says of one range of addresses.
struct range_figures {
    bytes memory_file{}; ///< backed by a memory file: what the library calls mapped
    bytes accessible{};  ///< of it, readable and writable
    bytes reserved{};    ///< anonymous and out of reach: addresses without memory

    /// What a reservation covers. Once it is released anything else may lie there, but not this.
    [[nodiscard]] bytes covered() const noexcept { return memory_file + reserved; }
};

[[nodiscard]] inline range_figures kernel_range(address where, bytes size) {
    range_figures figures;
    for (const map_line& line : read_maps()) {
        const bytes inside{line.inside(where, size)};
        if (line.memory_file) {
            figures.memory_file += inside;
            figures.accessible += std::memcmp(line.permissions, "rw", 2) == 0 ? inside : bytes{0};
        } else if (std::memcmp(line.permissions, "---p", 4) == 0) {
            figures.reserved += inside;
        }
    }
    return figures;
}

/// Lines of /proc/self/maps that belong to memory files of host backends.
[[nodiscard]] inline std::size_t memory_file_lines() {
    const auto lines = read_maps();
    return static_cast<std::size_t>(
        std::count_if(lines.begin(), lines.end(), [](const map_line& line) { return line.memory_file; }));
}

/// Descriptors that this process has open, without the one that is needed to count them.
[[nodiscard]] inline std::size_t open_descriptors() {
    DIR* const folder = ::opendir("/proc/self/fd");
    if (folder == nullptr)
        return 0;
    std::size_t count = 0;
    while (const dirent* const entry = ::readdir(folder))
        count += entry->d_name[0] != '.' ? 1u : 0u;
    ::closedir(folder);
    return count - 1;
}

} // namespace vtensor::testing
