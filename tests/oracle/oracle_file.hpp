// SPDX-License-Identifier: Apache-2.0
//
// Reads a file of reference vectors and believes nothing of it: what is truncated, missing or of another
// shape than the file's own parameters say is refused with one sentence.
#pragma once

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace oracle {

/// The file is no file of reference vectors.
class bad_file : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

using extents = std::vector<std::size_t>;

class oracle_file {
  public:
    /// Throws bad_file.
    explicit oracle_file(const std::string& path);

    [[nodiscard]] bool has_parameter(const std::string& key) const;
    /// A parameter of the metadata: a whole number of at most `most`, a number, or a list of whole numbers.
    [[nodiscard]] std::size_t count(const std::string& key, std::size_t most) const;
    [[nodiscard]] double number(const std::string& key) const;
    [[nodiscard]] std::vector<std::size_t> counts(const std::string& key, std::size_t most) const;

    /// The elements of a tensor of exactly that shape.
    [[nodiscard]] std::vector<float> floats(const std::string& name, const extents& shape) const;
    [[nodiscard]] std::vector<std::int64_t> integers(const std::string& name, const extents& shape) const;
    /// The shape of a tensor of so many dimensions.
    [[nodiscard]] extents shape(const std::string& name, std::size_t dimensions) const;

    /// The names of all tensors that have not been asked for.
    [[nodiscard]] std::vector<std::string> unread() const;

  private:
    [[nodiscard]] std::string parameter(const std::string& key) const;
    [[nodiscard]] const char* elements(const std::string& name, const extents& shape, const char* type,
                                       std::size_t width) const;
    [[nodiscard]] const nlohmann::json& entry(const std::string& name) const;

    nlohmann::json header_;
    std::vector<char> data_;
    mutable std::vector<std::string> read_;
};

} // namespace oracle
