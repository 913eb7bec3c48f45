// SPDX-License-Identifier: Apache-2.0
//
// The file of `--batch`: a prompt a line.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace decoder {

/// Its lines without their ends, of Unix or of DOS; empty ones are left out. Refuses with `input_error` what
/// cannot be read, and a file without a prompt.
[[nodiscard]] std::vector<std::string> read_batch(const std::filesystem::path& file);

} // namespace decoder
