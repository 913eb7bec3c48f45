// SPDX-License-Identifier: Apache-2.0
#include "io/weights.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace decoder {

namespace {

struct type_facts {
    std::string_view name;
    std::size_t size;
};

constexpr std::array<type_facts, 14> facts{{{"F32", 4},
                                            {"F16", 2},
                                            {"BF16", 2},
                                            {"F64", 8},
                                            {"I64", 8},
                                            {"I32", 4},
                                            {"I16", 2},
                                            {"I8", 1},
                                            {"U64", 8},
                                            {"U32", 4},
                                            {"U16", 2},
                                            {"U8", 1},
                                            {"BOOL", 1},
                                            {"F8", 1}}};

void read_bf16(const std::byte* from, std::span<float> out) noexcept {
    for (std::size_t i = 0; i < out.size(); ++i) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, from + 2 * i, sizeof bits);
        out[i] = std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
}

/// Through a small aligned buffer, so that the source may lie at any address.
void read_f16(const std::byte* from, std::span<float> out) noexcept {
    alignas(64) std::array<Eigen::half, 128> aligned;
    for (std::size_t done = 0; done < out.size(); done += aligned.size()) {
        const std::size_t count = std::min(aligned.size(), out.size() - done);
        std::memcpy(static_cast<void*>(aligned.data()), from + 2 * done, 2 * count);
        const auto length = static_cast<Eigen::Index>(count);
        Eigen::Map<Eigen::ArrayXf>{out.data() + done, length} =
            Eigen::Map<const Eigen::Array<Eigen::half, Eigen::Dynamic, 1>>{aligned.data(), length}
                .cast<float>();
    }
}

} // namespace

std::size_t size_of(element_type type) noexcept { return facts[static_cast<std::size_t>(type)].size; }

std::string_view name_of(element_type type) noexcept { return facts[static_cast<std::size_t>(type)].name; }

void read_elements(const weight& from, std::size_t first, std::span<float> out) noexcept {
    const std::byte* const source = from.data + first * size_of(from.type);
    switch (from.type) {
    case element_type::f32:
        std::memcpy(out.data(), source, out.size_bytes());
        break;
    case element_type::bf16:
        read_bf16(source, out);
        break;
    case element_type::f16:
        read_f16(source, out);
        break;
    default:
        std::fill(out.begin(), out.end(), 0.0F); // never reached: the checkpoint refuses other types
    }
}

} // namespace decoder
