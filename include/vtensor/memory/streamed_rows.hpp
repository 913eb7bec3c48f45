// SPDX-License-Identifier: Apache-2.0
//
// Many rows that slide down, moved by the CPU at the speed of memory: what comes next is asked for a fixed
// number of bytes ahead, across the moves, and what is written goes past the caches, so that a line is not
// read only to be overwritten. For amounts beyond the caches; row_moves.hpp chooses.
#pragma once

#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/core/units.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace vtensor::detail {

#if defined(__SSE2__)
inline constexpr bool can_stream_rows = true;
#else
inline constexpr bool can_stream_rows = false;
#endif

/// Whether rows of this size at these addresses can be written past the caches.
[[nodiscard]] inline bool are_streamable(const std::byte* start, bytes row) noexcept {
    constexpr std::size_t vector = 16;
    return can_stream_rows && row.count() % vector == 0 &&
           reinterpret_cast<std::uintptr_t>(start) % vector == 0;
}

/// Goes along the rows that moves will read, and asks memory for them: scattered rows are no stream that a
/// processor foresees.
class rows_ahead {
  public:
    static constexpr std::size_t line = 64;

    rows_ahead(const std::byte* start, std::size_t row, std::span<const defrag::row_move> moves) noexcept
        : start_{start}, row_{row}, next_{moves.begin()}, end_{moves.end()} {}

    /// The next `size` bytes, whole lines.
    void ask(std::size_t size) noexcept {
        for (std::size_t asked = 0; asked < size && next_ != end_; asked += line) {
            __builtin_prefetch(start_ + next_->from * row_ + offset_);
            offset_ += line;
            if (offset_ >= next_->count * row_) {
                offset_ = 0;
                ++next_;
            }
        }
    }

  private:
    const std::byte* start_;
    std::size_t row_;
    std::span<const defrag::row_move>::iterator next_;
    std::span<const defrag::row_move>::iterator end_;
    std::size_t offset_ = 0;
};

/// `size` bytes, a multiple of 16, to a lower address; the two may overlap. The writes are in order with what
/// the same thread reads, and with other threads after `end_of_stream`.
inline void stream_down(std::byte* to, const std::byte* from, std::size_t size) noexcept {
#if defined(__SSE2__)
    const auto read = [](const std::byte* where) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(where));
    };
    const auto write = [](std::byte* where, __m128i value) {
        _mm_stream_si128(reinterpret_cast<__m128i*>(where), value);
    };
    std::size_t done = 0;
    for (; done + rows_ahead::line <= size; done += rows_ahead::line) {
        const __m128i first = read(from + done);
        const __m128i second = read(from + done + 16);
        const __m128i third = read(from + done + 32);
        const __m128i fourth = read(from + done + 48);
        write(to + done, first);
        write(to + done + 16, second);
        write(to + done + 32, third);
        write(to + done + 48, fourth);
    }
    for (; done < size; done += 16)
        write(to + done, read(from + done));
#else
    std::memmove(to, from, size);
#endif
}
inline void end_of_stream() noexcept {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

/// As `move_rows`, where `are_streamable`. Done when it returns, for every thread that is told of it.
inline void stream_rows(std::byte* start, bytes row, std::span<const defrag::row_move> moves) noexcept {
    constexpr std::size_t ahead = 6144; // bytes; measured: 2 KiB is too late, 16 KiB is forgotten again
    constexpr std::size_t piece = 1024;
    const std::size_t size = row.count();
    rows_ahead coming{start, size, moves};
    coming.ask(ahead);
    for (const defrag::row_move& move : moves) {
        std::byte* const to = start + move.to * size;
        const std::byte* const from = start + move.from * size;
        const std::size_t all = move.count * size;
        if (to > from) {
            coming.ask(all);
            std::memmove(to, from, all);
            continue;
        }
        for (std::size_t done = 0; done < all; done += piece) {
            const std::size_t part = std::min(piece, all - done);
            coming.ask(part);
            stream_down(to + done, from + done, part);
        }
    }
    end_of_stream();
}

} // namespace vtensor::detail
