// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.hpp"

#include "io/input_error.hpp"
#include "io/json_text.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace decoder {

namespace {

using nlohmann::json;

constexpr std::size_t length_bytes = 8;
constexpr std::size_t largest_header = 100'000'000; // the ceiling of the format's own implementation
constexpr std::size_t deepest_header = 4;
constexpr std::size_t most_dimensions = 16;

struct extent {
    std::size_t begin;
    std::size_t end;
    const std::string* name;
};

std::size_t read_header_length(std::span<const std::byte> file, const std::string& what) {
    if (file.size() < length_bytes)
        refuse(what + " has only " + std::to_string(file.size()) +
               " bytes and cannot be a safetensors file; fetch it again");
    std::uint64_t length = 0;
    for (std::size_t i = 0; i < length_bytes; ++i)
        length |= std::to_integer<std::uint64_t>(file[i]) << (8 * i);
    if (length > largest_header)
        refuse(what + " announces a header of " + std::to_string(length) + " bytes (at most " +
               std::to_string(largest_header) + " are allowed); it is not a safetensors file or is damaged");
    if (length > file.size() - length_bytes)
        refuse(what + " is cut short: its header alone needs " + std::to_string(length) + " bytes and " +
               std::to_string(file.size() - length_bytes) + " are there; fetch it again");
    return static_cast<std::size_t>(length);
}

std::optional<element_type> type_named(const std::string& name) {
    for (int i = 0; i <= static_cast<int>(element_type::boolean); ++i)
        if (name == name_of(static_cast<element_type>(i)))
            return static_cast<element_type>(i);
    if (name == "F8_E4M3" || name == "F8_E5M2")
        return element_type::f8;
    return std::nullopt;
}

/// One entry of the header, with its place in messages.
class entry_reader {
  public:
    entry_reader(const std::string& what, const std::string& name, const json& entry)
        : where_{what + ", tensor \"" + printable(name) + "\": "}, entry_{entry} {
        if (!entry.is_object())
            complain("is not described by an object");
    }

    [[nodiscard]] element_type type() const {
        const json& value = field("dtype");
        const auto type = value.is_string() ? type_named(value.get<std::string>()) : std::nullopt;
        if (!type)
            complain("has an unknown dtype");
        return *type;
    }

    [[nodiscard]] std::vector<std::size_t> shape() const { return numbers("shape", 0, most_dimensions); }

    [[nodiscard]] std::pair<std::size_t, std::size_t> offsets(std::size_t data_bytes) const {
        const auto pair = numbers("data_offsets", 2, 2);
        if (pair[0] > pair[1])
            complain("begins behind its end");
        if (pair[1] > data_bytes)
            complain("ends at byte " + std::to_string(pair[1]) + " of the data, of which there are " +
                     std::to_string(data_bytes) + "; the file is cut short");
        return {pair[0], pair[1]};
    }

    /// The bytes that shape and type ask for must be the bytes that the offsets give.
    void check_size(element_type type, const std::vector<std::size_t>& shape, std::size_t given) const {
        const bool is_empty = std::find(shape.begin(), shape.end(), 0U) != shape.end();
        std::size_t needed = is_empty ? 0 : size_of(type);
        for (const std::size_t size : shape)
            if (!is_empty && __builtin_mul_overflow(needed, size, &needed))
                complain("has a shape whose size overflows");
        if (needed != given)
            complain("needs " + std::to_string(needed) + " bytes by its shape and has " +
                     std::to_string(given));
    }

  private:
    [[noreturn]] void complain(const std::string& trouble) const {
        refuse(where_ + trouble + "; fetch the file again");
    }

    [[nodiscard]] const json& field(const char* name) const {
        const auto found = entry_.find(name);
        if (found == entry_.end())
            complain(std::string{"lacks \""} + name + "\"");
        return *found;
    }

    [[nodiscard]] std::vector<std::size_t> numbers(const char* name, std::size_t fewest,
                                                   std::size_t most) const {
        const json& list = field(name);
        if (!list.is_array() || list.size() < fewest || list.size() > most)
            complain(std::string{"has a \""} + name + "\" that is no list of the right length");
        std::vector<std::size_t> values;
        for (const json& value : list) {
            if (!value.is_number_unsigned())
                complain(std::string{"has a \""} + name +
                         "\" with something else than whole numbers from 0 on");
            values.push_back(value.get<std::size_t>());
        }
        return values;
    }

    std::string where_;
    const json& entry_;
};

/// The data must be covered from its first byte to its last, without gaps and without overlaps.
void check_coverage(std::vector<extent> extents, std::size_t data_bytes, const std::string& what) {
    std::sort(extents.begin(), extents.end(), [](const extent& left, const extent& right) {
        return std::pair{left.begin, left.end} < std::pair{right.begin, right.end};
    });
    std::size_t expected = 0;
    for (const extent& part : extents) {
        if (part.begin != expected)
            refuse(what + ", tensor \"" + printable(*part.name) + "\": " +
                   (part.begin < expected ? "overlaps the tensor before it"
                                          : "leaves a gap behind the tensor before it") +
                   "; fetch the file again");
        expected = part.end;
    }
    if (expected != data_bytes)
        refuse(what + " has " + std::to_string(data_bytes - expected) +
               " bytes behind its last tensor; it is damaged, fetch it again");
}

void check_metadata(const json& metadata, const std::string& what) {
    if (!metadata.is_object() ||
        !std::all_of(metadata.begin(), metadata.end(), [](const json& value) { return value.is_string(); }))
        refuse(what + " has a __metadata__ that does not map names to texts; fetch it again");
}

} // namespace

std::map<std::string, weight> parse_safetensors(std::span<const std::byte> file, const std::string& what) {
    const std::size_t header_bytes = read_header_length(file, what);
    const auto* const text = reinterpret_cast<const char*>(file.data()) + length_bytes;
    const json header = parse_json({text, header_bytes}, "the header of " + what, deepest_header);
    if (!header.is_object())
        refuse("the header of " + what + " is not a JSON object; it is not a safetensors file");

    const auto data = file.subspan(length_bytes + header_bytes);
    std::map<std::string, weight> tensors;
    std::vector<extent> extents;
    for (const auto& [name, entry] : header.items()) {
        if (name == "__metadata__") {
            check_metadata(entry, what);
            continue;
        }
        const entry_reader reader{what, name, entry};
        const auto [begin, end] = reader.offsets(data.size());
        weight tensor{reader.type(), reader.shape(), data.data() + begin};
        reader.check_size(tensor.type, tensor.shape, end - begin);
        const auto placed = tensors.emplace(name, std::move(tensor)).first;
        extents.push_back({begin, end, &placed->first});
    }
    check_coverage(std::move(extents), data.size(), what);
    return tensors;
}

safetensors_file::safetensors_file(const std::filesystem::path& path)
    : file_{path}, tensors_{parse_safetensors(file_.bytes(), printable(path.string(), 300))} {}

const weight* safetensors_file::find(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
}

} // namespace decoder
