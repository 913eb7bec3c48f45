// SPDX-License-Identifier: Apache-2.0
//
// Weights where they lie: a type, a shape, and a pointer into the mapped file. Reading them converts to float
// a few elements at a time; nothing here owns or copies a weight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace decoder {

/// The element types of safetensors files. The model may use the first three; the others are known so that a
/// file which also holds something else can be checked.
enum class element_type : std::uint8_t {
    f32,
    f16,
    bf16,
    f64,
    i64,
    i32,
    i16,
    i8,
    u64,
    u32,
    u16,
    u8,
    boolean,
    f8
};

/// Bytes of one element.
[[nodiscard]] std::size_t size_of(element_type type) noexcept;
/// The name in a safetensors header: "F32", "BF16", ...
[[nodiscard]] std::string_view name_of(element_type type) noexcept;

/// A tensor inside a mapped file. Rows are contiguous; `data` need not be aligned for its type.
struct weight {
    element_type type = element_type::f32;
    std::vector<std::size_t> shape;
    const std::byte* data = nullptr;

    /// Elements of one row: the last extent.
    [[nodiscard]] std::size_t columns() const noexcept { return shape.empty() ? 1 : shape.back(); }
    /// True where the data may be read as floats directly.
    [[nodiscard]] bool is_aligned_float() const noexcept {
        return type == element_type::f32 && reinterpret_cast<std::uintptr_t>(data) % alignof(float) == 0;
    }
};

/// Elements [first, first + out.size()) of a weight of type f32, f16 or bf16, converted exactly.
void read_elements(const weight& from, std::size_t first, std::span<float> out) noexcept;

} // namespace decoder
