// SPDX-License-Identifier: Apache-2.0
//
// The weights of one model directory: `model.safetensors`, or the shards that `model.safetensors.index.json`
// lists. Hands out weights by name and shape; which names a model needs is for the model to say.
#pragma once

#include "io/safetensors.hpp"

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

namespace decoder {

class checkpoint {
  public:
    /// Maps the weight files of the directory. Refuses a directory without any, an index that names a file
    /// outside the directory, a missing shard, and a tensor that is not where the index says.
    explicit checkpoint(const std::filesystem::path& directory);

    [[nodiscard]] bool contains(const std::string& name) const { return where_.count(name) != 0; }

    /// The weight of that name, which must have that shape and one of the types F32, F16, BF16. Valid as long
    /// as the checkpoint, also after it is moved.
    [[nodiscard]] weight require(const std::string& name, std::initializer_list<std::size_t> shape) const;

    /// Bytes of all weights together, as they lie in the files.
    [[nodiscard]] std::size_t weight_bytes() const;

  private:
    void open_single(const std::filesystem::path& file);
    void open_shards(const std::filesystem::path& directory, const std::filesystem::path& index);

    std::vector<safetensors_file> files_;
    std::map<std::string, std::size_t> where_; // name → position in files_
};

} // namespace decoder
