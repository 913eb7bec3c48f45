// SPDX-License-Identifier: Apache-2.0
//
// The kernel's own count of the physical memory in the memory files of this process: the independent truth
// against which "freed" is checked. What it says of addresses is in proc_maps.hpp.
#pragma once

#include <vtensor/core/units.hpp>

#include <cstddef>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include <sys/stat.h>

namespace vtensor::testing {

/// Physical bytes of all memory files of host backends together, each file once, however many descriptors of
/// it this process has.
[[nodiscard]] inline bytes kernel_memory_file_bytes() {
    bytes sum{0};
    std::set<std::pair<dev_t, ino_t>> seen;
    for (const auto& descriptor : std::filesystem::directory_iterator{"/proc/self/fd"}) {
        std::error_code gone; // the directory's own descriptor may be closed by now
        const auto target = std::filesystem::read_symlink(descriptor.path(), gone);
        struct stat file {};
        if (!gone && target.string().starts_with("/memfd:vtensor") &&
            ::stat(descriptor.path().c_str(), &file) == 0 && seen.emplace(file.st_dev, file.st_ino).second)
            sum += bytes{static_cast<std::size_t>(file.st_blocks) * 512};
    }
    return sum;
}

} // namespace vtensor::testing
