// SPDX-License-Identifier: Apache-2.0
//
// The file of `--batch`, or the standard input in its place: a prompt a line.
#pragma once

#include <string>
#include <vector>

namespace decoder {

/// Lines of the file, or of the standard input for "-", without their ends, of Unix or of DOS; empty ones are
/// left out. Refuses with `input_error` what cannot be read, and what has no prompt.
[[nodiscard]] std::vector<std::string> read_batch(const std::string& file);

} // namespace decoder
