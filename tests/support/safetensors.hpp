// SPDX-License-Identifier: Apache-2.0
//
// Reads the safetensors files that tests compare with. It trusts them: a damaged file throws whatever comes
// first. The decoder has the loader for files from strangers.
#pragma once

#include <vtensor/core/element.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace vtensor::testing {

/// One file, held in memory.
class safetensors_file {
  public:
    explicit safetensors_file(const std::string& path) {
        std::ifstream file{path, std::ios::binary};
        if (!file)
            throw std::runtime_error{"cannot open " + path};
        const std::vector<char> content{std::istreambuf_iterator<char>{file}, {}};
        std::uint64_t header_bytes = 0;
        std::memcpy(&header_bytes, content.data(), sizeof header_bytes);
        const char* header = content.data() + sizeof header_bytes;
        header_ = nlohmann::json::parse(header, header + header_bytes);
        data_.assign(header + header_bytes, content.data() + content.size());
    }

    [[nodiscard]] bool contains(const std::string& name) const { return header_.contains(name); }

    /// A value of `__metadata__`.
    [[nodiscard]] std::string metadata(const std::string& key) const {
        return header_.at("__metadata__").at(key).get<std::string>();
    }

    [[nodiscard]] std::vector<std::size_t> shape(const std::string& name) const {
        return header_.at(name).at("shape").get<std::vector<std::size_t>>();
    }

    /// The elements in row-major order, F32, F16 and BF16 as float.
    [[nodiscard]] std::vector<float> floats(const std::string& name) const {
        const auto type = header_.at(name).at("dtype").get<std::string>();
        if (type == "F32")
            return elements<float, float>(name);
        if (type == "F16")
            return elements<float16, float>(name);
        if (type == "BF16")
            return elements<bfloat16, float>(name);
        throw std::runtime_error{name + " holds " + type + ", not floats"};
    }

    /// The elements in row-major order, I32 and I64 as 64-bit integers, BOOL and U8 as 0, 1, …
    [[nodiscard]] std::vector<std::int64_t> integers(const std::string& name) const {
        const auto type = header_.at(name).at("dtype").get<std::string>();
        if (type == "I64")
            return elements<std::int64_t, std::int64_t>(name);
        if (type == "I32")
            return elements<std::int32_t, std::int64_t>(name);
        if (type == "BOOL" || type == "U8")
            return elements<std::uint8_t, std::int64_t>(name);
        throw std::runtime_error{name + " holds " + type + ", not integers"};
    }

  private:
    template <class Stored, class Wanted>
    [[nodiscard]] std::vector<Wanted> elements(const std::string& name) const {
        const auto extents = shape(name);
        const std::size_t count =
            std::accumulate(extents.begin(), extents.end(), std::size_t{1}, std::multiplies<>{});
        const auto offsets = header_.at(name).at("data_offsets").get<std::vector<std::size_t>>();
        if (offsets.at(1) - offsets.at(0) != count * sizeof(Stored) || offsets.at(1) > data_.size())
            throw std::runtime_error{name + " does not fit its shape"};
        std::vector<Wanted> values(count);
        for (std::size_t index = 0; index < count; ++index) {
            Stored stored{};
            std::memcpy(&stored, data_.data() + offsets[0] + index * sizeof(Stored), sizeof stored);
            if constexpr (std::is_same_v<Wanted, float>)
                values[index] = to_float(stored);
            else
                values[index] = static_cast<Wanted>(stored);
        }
        return values;
    }

    nlohmann::json header_;
    std::vector<char> data_;
};

} // namespace vtensor::testing
