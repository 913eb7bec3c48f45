// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint.hpp"

#include "io/input_error.hpp"
#include "io/json_text.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace decoder {

namespace {

using nlohmann::json;

constexpr std::size_t largest_index = 64U << 20;
constexpr std::size_t deepest_index = 8;

template <class Sizes>
std::string to_text(const Sizes& shape) {
    std::string text = "[";
    for (const std::size_t size : shape)
        text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    return text + "]";
}

/// A shard is a plain name beside the index: nothing that leads out of the directory.
std::string shard_name(const json& value, const std::string& what) {
    if (!value.is_string())
        refuse(what + " maps a tensor to something that is no file name; fetch it again");
    const auto name = value.get<std::string>();
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos)
        refuse(what + " names the file \"" + printable(name) +
               "\", which is not a file beside it; fetch the index again");
    return name;
}

} // namespace

checkpoint::checkpoint(const std::filesystem::path& directory) {
    const auto single = directory / "model.safetensors";
    const auto index = directory / "model.safetensors.index.json";
    std::error_code ignored;
    if (std::filesystem::exists(single, ignored))
        open_single(single);
    else if (std::filesystem::exists(index, ignored))
        open_shards(directory, index);
    else
        refuse(printable(directory.string(), 300) +
               " holds neither model.safetensors nor model.safetensors.index.json; "
               "give a directory in the Hugging Face layout");
}

void checkpoint::open_single(const std::filesystem::path& file) {
    files_.emplace_back(file);
    for (const auto& [name, tensor] : files_.front().tensors())
        where_.emplace(name, 0);
}

void checkpoint::open_shards(const std::filesystem::path& directory, const std::filesystem::path& index) {
    const std::string what = printable(index.string(), 300);
    const json root = parse_json(read_text(index, largest_index), what, deepest_index);
    const auto map = root.is_object() ? root.find("weight_map") : root.end();
    if (map == root.end() || !map->is_object() || map->empty())
        refuse(what + " has no \"weight_map\"; it is not an index of shards");

    std::map<std::string, std::size_t> opened;
    for (const auto& [name, value] : map->items()) {
        const std::string shard = shard_name(value, what);
        const auto [place, is_new] = opened.emplace(shard, files_.size());
        if (is_new)
            files_.emplace_back(directory / shard);
        if (files_[place->second].find(name) == nullptr)
            refuse(what + " places \"" + printable(name) + "\" in " + printable(shard) +
                   ", which does not hold it; fetch both again");
        where_.emplace(name, place->second);
    }
}

weight checkpoint::require(const std::string& name, std::initializer_list<std::size_t> shape) const {
    const auto found = where_.find(name);
    if (found == where_.end())
        refuse("the checkpoint lacks the tensor \"" + name +
               "\"; config.json and the weights do not belong together, or this is no Llama model");
    const weight tensor = *files_[found->second].find(name);
    if (!std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end()))
        refuse("the tensor \"" + name + "\" has the shape " + to_text(tensor.shape) +
               " where config.json asks for " + to_text(shape) +
               "; config.json and the weights do not belong together");
    if (tensor.type != element_type::f32 && tensor.type != element_type::f16 &&
        tensor.type != element_type::bf16)
        refuse("the tensor \"" + name + "\" is stored as " + std::string{name_of(tensor.type)} +
               "; convert the checkpoint to F32, F16 or BF16");
    return tensor;
}

std::size_t checkpoint::weight_bytes() const {
    std::size_t total = 0;
    for (const auto& [name, file] : where_) {
        const weight& tensor = *files_[file].find(name);
        std::size_t elements = 1;
        for (const std::size_t size : tensor.shape)
            elements *= size;
        total += elements * size_of(tensor.type);
    }
    return total;
}

} // namespace decoder
