// SPDX-License-Identifier: Apache-2.0
//
// A file that appears whole or not at all: opened before the work begins, so that a path that cannot be
// written is refused early, and renamed into place at the end.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string_view>

namespace decoder {

class output_file {
  public:
    /// Opens a file beside `path`, or `path` itself where it is a device or a pipe. Refuses with
    /// `input_error`.
    explicit output_file(const std::filesystem::path& path);
    output_file(const output_file&) = delete;
    output_file& operator=(const output_file&) = delete;
    /// Removes what was not finished.
    ~output_file();

    /// Writes the content and puts the file in its place. Refuses with `input_error`, leaving `path` as it
    /// was.
    void finish(std::string_view content);

  private:
    std::filesystem::path path_;
    std::filesystem::path written_; // what is open: `path_` or a file beside it
    std::FILE* file_;
};

} // namespace decoder
