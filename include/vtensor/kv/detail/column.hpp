// SPDX-License-Identifier: Apache-2.0
//
// Rows that lie a fixed distance apart in memory that the CPU reaches, and their moves.
#pragma once

#include <vtensor/core/defrag_plan.hpp>

#include <cstddef>
#include <cstring>
#include <span>

namespace vtensor::kv::detail {

/// The rows of one head: `width` bytes each, `stride` bytes from one to the next.
struct column {
    std::byte* start = nullptr;
    std::size_t stride = 0;
    std::size_t width = 0;

    /// `count` rows from `from` on go to `to` on, as `memmove` does it.
    void move(std::size_t from, std::size_t to, std::size_t count) const noexcept {
        if (from == to)
            return;
        if (stride == width) {
            std::memmove(start + to * stride, start + from * stride, count * stride);
            return;
        }
        for (std::size_t index = 0; index < count; ++index) {
            const std::size_t row = to < from ? index : count - 1 - index;
            std::memcpy(start + (to + row) * stride, start + (from + row) * stride, width);
        }
    }
    void move(std::span<const defrag::row_move> moves) const noexcept {
        for (const defrag::row_move& one : moves)
            move(one.from, one.to, one.count);
    }
};

} // namespace vtensor::kv::detail
