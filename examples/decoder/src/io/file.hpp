// SPDX-License-Identifier: Apache-2.0
//
// Files as the decoder reads them: mapped (weights) or whole (text). A file that cannot be read is refused
// with `input_error` naming it. Never writes.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace decoder {

/// A file mapped read-only; the bytes stay where they are until the object goes. Movable. Pages are read from
/// disk when they are touched, so the file must not be truncated while it is in use.
class mapped_file {
  public:
    /// Maps the whole of a regular file. An empty file gives an empty span.
    explicit mapped_file(const std::filesystem::path& path);
    mapped_file(mapped_file&& other) noexcept;
    mapped_file& operator=(mapped_file&& other) noexcept;
    ~mapped_file();

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

  private:
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

/// The whole content of a regular file of at most `largest` bytes.
[[nodiscard]] std::string read_text(const std::filesystem::path& path, std::size_t largest);

} // namespace decoder
