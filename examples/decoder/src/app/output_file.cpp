// SPDX-License-Identifier: Apache-2.0
#include "app/output_file.hpp"

#include "io/input_error.hpp"

#include <cerrno>
#include <cstring>
#include <string>

#include <unistd.h>

namespace decoder {

namespace {

[[noreturn]] void refuse_writing(const std::filesystem::path& path) {
    refuse("cannot write " + printable(path.string(), 300) + ": " + std::strerror(errno) +
           "; give --json a path that can be written");
}

bool is_special(const std::filesystem::path& path) {
    std::error_code ignored;
    const auto status = std::filesystem::status(path, ignored);
    return std::filesystem::exists(status) && !std::filesystem::is_regular_file(status);
}

/// A path that ends in a file name; "" and "folder/" do not.
const std::filesystem::path& with_name(const std::filesystem::path& path) {
    if (!path.has_filename())
        refuse("--json \"" + printable(path.string()) + "\" names no file; give it the path of a file");
    return path;
}

} // namespace

output_file::output_file(const std::filesystem::path& path)
    : path_{with_name(path)},
      written_{is_special(path)
                   ? path
                   : std::filesystem::path{path.string() + ".partial-" + std::to_string(::getpid())}},
      file_{std::fopen(written_.c_str(), "wb")} {
    if (file_ == nullptr)
        refuse_writing(path_);
}

output_file::~output_file() {
    if (file_ == nullptr)
        return;
    std::fclose(file_);
    std::error_code ignored;
    if (written_ != path_)
        std::filesystem::remove(written_, ignored);
}

void output_file::finish(std::string_view content) {
    if (std::fwrite(content.data(), 1, content.size(), file_) != content.size() || std::fflush(file_) != 0)
        refuse_writing(path_);
    if (written_ != path_ && std::rename(written_.c_str(), path_.c_str()) != 0)
        refuse_writing(path_);
    std::fclose(file_);
    file_ = nullptr;
}

} // namespace decoder
