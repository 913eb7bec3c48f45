// SPDX-License-Identifier: Apache-2.0
//
// The physical memory of the simulation: Linux memory files. Memory that may be exported has a file of its
// own, so that its descriptor gives access to nothing else; the rest of a device shares one file.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vtensor::testing::simulated {

/// What memory is created with, in words that CUDA and HIP share.
struct memory_properties {
    int device = 0;
    int handle_types = 0; ///< bits
    bool rdma = false;

    friend bool operator==(const memory_properties&, const memory_properties&) = default;
};

/// Owns a descriptor.
class descriptor {
  public:
    descriptor() = default;
    explicit descriptor(int owned) noexcept : number_{owned} {}
    descriptor(descriptor&& other) noexcept : number_{std::exchange(other.number_, -1)} {}
    descriptor& operator=(descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~descriptor() {
        if (number_ >= 0)
            ::close(number_);
    }
    [[nodiscard]] int number() const noexcept { return number_; }
    [[nodiscard]] explicit operator bool() const noexcept { return number_ >= 0; }

  private:
    int number_ = -1;
};

/// A file's identity, the same for all descriptors of it.
struct file_identity {
    dev_t device = 0;
    ino_t inode = 0;

    friend bool operator==(const file_identity&, const file_identity&) = default;
};

[[nodiscard]] inline std::optional<file_identity> identity_of(int file) noexcept {
    struct stat facts {};
    if (::fstat(file, &facts) != 0)
        return std::nullopt;
    return file_identity{facts.st_dev, facts.st_ino};
}

/// True where a descriptor of this process leads to that file.
[[nodiscard]] inline bool any_descriptor_of(const file_identity& file) noexcept {
    DIR* const folder = ::opendir("/proc/self/fd");
    if (folder == nullptr)
        return false;
    bool found = false;
    while (const dirent* const one = ::readdir(folder)) {
        int number = -1;
        const std::string_view text{one->d_name};
        if (std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc{})
            found = found || identity_of(number) == file;
    }
    ::closedir(folder);
    return found;
}

// The name of a file says what the memory is, so that a process that receives a descriptor can tell it from
// any other file: "/memfd:vtensor-simulated-<device>-<handle types>-<rdma>".
inline constexpr std::string_view file_prefix = "vtensor-simulated-";

[[nodiscard]] inline std::string file_name(const memory_properties& properties) {
    return std::string{file_prefix} + std::to_string(properties.device) + '-' +
           std::to_string(properties.handle_types) + '-' + (properties.rdma ? '1' : '0');
}

/// What the memory behind a descriptor was created with; nothing where it is no memory of the simulation.
[[nodiscard]] inline std::optional<memory_properties> properties_of(int file) {
    std::array<char, 128> target{};
    const std::string link = "/proc/self/fd/" + std::to_string(file);
    const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
    if (length <= 0)
        return std::nullopt;
    std::string_view text{target.data(), static_cast<std::size_t>(length)};
    const std::string start = std::string{"/memfd:"}.append(file_prefix);
    if (!text.starts_with(start))
        return std::nullopt;
    text.remove_prefix(start.size());
    int numbers[3] = {};
    const char* at = text.data();
    for (int& number : numbers) {
        const auto [end, failure] = std::from_chars(at, text.data() + text.size(), number);
        if (failure != std::errc{})
            return std::nullopt;
        at = end + 1; // behind the '-'
    }
    return memory_properties{numbers[0], numbers[1], numbers[2] != 0};
}

/// A new memory file of that many bytes, all zero. Empty where Linux refuses.
[[nodiscard]] inline descriptor make_memory_file(const memory_properties& properties, std::size_t size) {
    descriptor file{::memfd_create(file_name(properties).c_str(), MFD_CLOEXEC)};
    if (file && ::ftruncate(file.number(), static_cast<off_t>(size)) != 0)
        return {};
    return file;
}

/// Lets this process open as many files as it may: exportable memory takes one each.
inline void allow_many_descriptors() noexcept {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
}

} // namespace vtensor::testing::simulated
