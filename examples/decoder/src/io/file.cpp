// SPDX-License-Identifier: Apache-2.0
#include "io/file.hpp"

#include "io/input_error.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace decoder {

namespace {

/// A file descriptor that closes itself.
class descriptor {
  public:
    explicit descriptor(const std::filesystem::path& path) : fd_{::open(path.c_str(), O_RDONLY | O_CLOEXEC)} {
        if (fd_ < 0)
            refuse("cannot open " + printable(path.string(), 300) + ": " + std::strerror(errno) +
                   "; check the path and its permissions");
    }
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;
    ~descriptor() { ::close(fd_); }

    [[nodiscard]] int get() const noexcept { return fd_; }

  private:
    int fd_;
};

std::size_t size_of_regular_file(const descriptor& file, const std::filesystem::path& path) {
    struct stat info {};
    if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode))
        refuse(printable(path.string(), 300) + " is not a regular file; give the path of a file");
    return static_cast<std::size_t>(info.st_size);
}

} // namespace

mapped_file::mapped_file(const std::filesystem::path& path) {
    const descriptor file{path};
    size_ = size_of_regular_file(file, path);
    if (size_ == 0)
        return;
    void* const where = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (where == MAP_FAILED)
        refuse("cannot map " + printable(path.string(), 300) + ": " + std::strerror(errno));
    data_ = static_cast<const std::byte*>(where);
}

mapped_file::mapped_file(mapped_file&& other) noexcept
    : data_{std::exchange(other.data_, nullptr)}, size_{std::exchange(other.size_, 0)} {}

mapped_file& mapped_file::operator=(mapped_file&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

mapped_file::~mapped_file() {
    if (data_ != nullptr)
        ::munmap(const_cast<std::byte*>(data_), size_);
}

std::string read_text(const std::filesystem::path& path, std::size_t largest) {
    const descriptor file{path};
    const std::size_t size = size_of_regular_file(file, path);
    if (size > largest)
        refuse(printable(path.string(), 300) + " has " + std::to_string(size) + " bytes; at most " +
               std::to_string(largest) + " are read");
    std::string text(size, '\0');
    std::size_t filled = 0;
    while (filled < size) {
        const ssize_t got = ::read(file.get(), text.data() + filled, size - filled);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            refuse("cannot read " + printable(path.string(), 300) + ": " + std::strerror(errno));
        if (got == 0)
            break;
        filled += static_cast<std::size_t>(got);
    }
    text.resize(filled);
    return text;
}

} // namespace decoder
