// SPDX-License-Identifier: Apache-2.0
//
// The safetensors container: eight bytes of header length, a JSON header, then the data. Every number of the
// header is checked before it is used, so that a truncated or hostile file is refused with one sentence and a
// file that is accepted can be read at every offset it names. Knows nothing of models.
// Format: https://huggingface.co/docs/safetensors, section "Format".
#pragma once

#include "io/file.hpp"
#include "io/weights.hpp"

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>

namespace decoder {

/// The tensors of a safetensors file by name, pointing into `file`. `what` names it in messages. Refuses with
/// `input_error`: a length that does not fit, broken JSON, a name twice, an unknown type, a shape whose size
/// overflows or disagrees with its offsets, offsets out of range, overlapping tensors, and bytes that belong
/// to no tensor.
[[nodiscard]] std::map<std::string, weight> parse_safetensors(std::span<const std::byte> file,
                                                              const std::string& what);

/// A mapped safetensors file.
class safetensors_file {
  public:
    explicit safetensors_file(const std::filesystem::path& path);

    /// The tensor of that name, or nullptr. Valid as long as the file object, also after it is moved.
    [[nodiscard]] const weight* find(const std::string& name) const;
    [[nodiscard]] const std::map<std::string, weight>& tensors() const noexcept { return tensors_; }

  private:
    mapped_file file_;
    std::map<std::string, weight> tensors_;
};

} // namespace decoder
