// SPDX-License-Identifier: Apache-2.0
#include "oracle_file.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>

namespace oracle {

namespace {

std::string text_of(const extents& shape) {
    std::string text = "[";
    for (std::size_t index = 0; index < shape.size(); ++index)
        text.append(index == 0 ? "" : ", ").append(std::to_string(shape[index]));
    return text + "]";
}

std::size_t whole_number(const std::string& key, const std::string& text, std::size_t most) {
    if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos)
        throw bad_file{"parameter " + key + " is no number: \"" + text + "\""};
    const auto value = static_cast<std::size_t>(std::stoul(text));
    if (value > most)
        throw bad_file{"parameter " + key + " is " + text + ", more than " + std::to_string(most)};
    return value;
}

} // namespace

oracle_file::oracle_file(const std::string& path) {
    std::ifstream file{path, std::ios::binary};
    if (!file)
        throw bad_file{"cannot be opened"};
    data_.assign(std::istreambuf_iterator<char>{file}, {});
    std::uint64_t header_bytes = 0;
    if (data_.size() < sizeof header_bytes)
        throw bad_file{"is shorter than the length of its header"};
    std::memcpy(&header_bytes, data_.data(), sizeof header_bytes);
    if (header_bytes > data_.size() - sizeof header_bytes)
        throw bad_file{"is shorter than its header"};
    const auto end_of_header =
        data_.begin() + static_cast<std::ptrdiff_t>(sizeof header_bytes + header_bytes);
    header_ = nlohmann::json::parse(data_.begin() + sizeof header_bytes, end_of_header, nullptr, false);
    if (!header_.is_object() || !header_.contains("__metadata__") || !header_["__metadata__"].is_object())
        throw bad_file{"has no header with metadata"};
    data_.erase(data_.begin(), end_of_header);
}

bool oracle_file::has_parameter(const std::string& key) const {
    return header_["__metadata__"].contains(key);
}

std::string oracle_file::parameter(const std::string& key) const {
    const auto& metadata = header_["__metadata__"];
    if (!metadata.contains(key) || !metadata[key].is_string())
        throw bad_file{"has no parameter " + key};
    return metadata[key].get<std::string>();
}

std::size_t oracle_file::count(const std::string& key, std::size_t most) const {
    return whole_number(key, parameter(key), most);
}

double oracle_file::number(const std::string& key) const {
    std::istringstream text{parameter(key)};
    double value = 0;
    if (!(text >> value) || !(text >> std::ws).eof() || !std::isfinite(value))
        throw bad_file{"parameter " + key + " is no number: \"" + parameter(key) + "\""};
    return value;
}

std::vector<std::size_t> oracle_file::counts(const std::string& key, std::size_t most) const {
    std::vector<std::size_t> all;
    std::istringstream text{parameter(key)};
    for (std::string one; std::getline(text, one, ',');)
        all.push_back(whole_number(key, one, most));
    return all;
}

const nlohmann::json& oracle_file::entry(const std::string& name) const {
    if (name == "__metadata__" || !header_.contains(name) || !header_[name].is_object())
        throw bad_file{"has no tensor " + name};
    return header_[name];
}

extents oracle_file::shape(const std::string& name, std::size_t dimensions) const {
    extents found;
    try {
        found = entry(name).at("shape").get<extents>();
    } catch (const nlohmann::json::exception&) {
        throw bad_file{"has a tensor " + name + " without a shape"};
    }
    if (found.size() != dimensions)
        throw bad_file{"has a tensor " + name + " of shape " + text_of(found) + ", not of " +
                       std::to_string(dimensions) + " dimensions"};
    return found;
}

const char* oracle_file::elements(const std::string& name, const extents& wanted, const char* type,
                                  std::size_t width) const {
    const extents found = shape(name, wanted.size());
    if (found != wanted)
        throw bad_file{"has a tensor " + name + " of shape " + text_of(found) + ", not " + text_of(wanted)};
    std::size_t bytes = width;
    for (const std::size_t extent : wanted)
        bytes *= extent; // extents are those of the parameters, which are bounded
    std::vector<std::size_t> offsets;
    std::string stored;
    try {
        offsets = entry(name).at("data_offsets").get<std::vector<std::size_t>>();
        stored = entry(name).at("dtype").get<std::string>();
    } catch (const nlohmann::json::exception&) {
        throw bad_file{"has a tensor " + name + " without offsets or type"};
    }
    if (stored != type)
        throw bad_file{"has a tensor " + name + " of type " + stored + ", not " + type};
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] - offsets[0] != bytes ||
        offsets[1] > data_.size())
        throw bad_file{"is truncated: tensor " + name + " lies beyond its end, or has another size"};
    read_.push_back(name);
    return data_.data() + offsets[0];
}

std::vector<float> oracle_file::floats(const std::string& name, const extents& wanted) const {
    const char* from = elements(name, wanted, "F32", sizeof(float));
    std::size_t total = 1;
    for (const std::size_t extent : wanted)
        total *= extent;
    std::vector<float> values(total);
    std::memcpy(values.data(), from, total * sizeof(float));
    if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); }))
        throw bad_file{"has a tensor " + name + " with numbers that are not finite"};
    return values;
}

std::vector<std::int64_t> oracle_file::integers(const std::string& name, const extents& wanted) const {
    const bool narrow = entry(name).value("dtype", "") == "I32";
    const char* from = elements(name, wanted, narrow ? "I32" : "I64", narrow ? 4 : 8);
    std::size_t total = 1;
    for (const std::size_t extent : wanted)
        total *= extent;
    std::vector<std::int64_t> values(total);
    for (std::size_t index = 0; index < total; ++index) {
        if (narrow) {
            std::int32_t value = 0;
            std::memcpy(&value, from + index * sizeof value, sizeof value);
            values[index] = value;
        } else {
            std::memcpy(&values[index], from + index * sizeof(std::int64_t), sizeof(std::int64_t));
        }
    }
    return values;
}

std::vector<std::string> oracle_file::unread() const {
    std::vector<std::string> names;
    for (const auto& item : header_.items())
        if (item.key() != "__metadata__" && std::find(read_.begin(), read_.end(), item.key()) == read_.end())
            names.push_back(item.key());
    return names;
}

} // namespace oracle
