// SPDX-License-Identifier: Apache-2.0
//
// Rows of one range that move: by the CPU where it reaches them, by copies on a stream otherwise. Which rows
// and where to was checked by slot_map.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/memory/streamed_rows.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace vtensor::detail {

/// Whether the moves copy more than the caches of a core hold, so that what is written would push out what is
/// needed next.
[[nodiscard]] inline bool exceed_caches(bytes row, std::span<const defrag::row_move> moves) noexcept {
    constexpr std::size_t enough = std::size_t{4} << 20;
    std::size_t rows = 0;
    for (const defrag::row_move& move : moves) {
        rows += move.count;
        if (rows * row.count() >= enough)
            return true;
    }
    return false;
}

/// Done when it returns. Little is moved through the caches: asked of memory a few moves ahead.
inline void move_rows(std::byte* start, bytes row, std::span<const defrag::row_move> moves) noexcept {
    if (are_streamable(start, row) && exceed_caches(row, moves))
        return stream_rows(start, row, moves);
    constexpr std::size_t ahead = 12;
    constexpr std::size_t most_lines = 16; // a longer run is foreseen by the processor
    const std::size_t size = row.count();
    for (std::size_t index = 0; index < moves.size(); ++index) {
        if (index + ahead < moves.size()) {
            const defrag::row_move& later = moves[index + ahead];
            rows_ahead{start, size, {&later, 1}}.ask(
                std::min(most_lines * rows_ahead::line, later.count * size));
        }
        const defrag::row_move& move = moves[index];
        std::memmove(start + move.to * size, start + move.from * size, move.count * size);
    }
}
/// Undoes `move_rows`: every live row is where it was.
inline void move_rows_back(std::byte* start, bytes row, std::span<const defrag::row_move> moves) noexcept {
    const std::size_t size = row.count();
    for (std::size_t index = moves.size(); index-- > 0;) {
        const defrag::row_move& move = moves[index];
        std::memmove(start + move.from * size, start + move.to * size, move.count * size);
    }
}

/// A move as copies whose ends do not overlap, as a stream needs them: rows that slide by d go d at a time,
/// and at most `most` at once.
class row_pieces {
  public:
    row_pieces(const defrag::row_move& move, std::size_t most) noexcept
        : move_{move},
          size_{
              std::min<std::size_t>(move.from > move.to ? move.from - move.to : move.to - move.from, most)} {}

    [[nodiscard]] std::size_t count() const noexcept {
        return size_ == 0 ? 0 : (std::size_t{move_.count} + size_ - 1) / size_;
    }
    /// The piece that is copied as the `index`th.
    [[nodiscard]] defrag::row_move operator[](std::size_t index) const noexcept {
        const std::size_t place = move_.to < move_.from ? index : count() - 1 - index;
        const auto first = static_cast<slot_type>(place * size_);
        const std::size_t rows = std::min(size_, std::size_t{move_.count} - first);
        return {move_.from + first, move_.to + first, static_cast<std::uint32_t>(rows)};
    }

  private:
    defrag::row_move move_;
    std::size_t size_;
};

/// Queues the moves on the stream. On failure what was queued is copied back, behind it, each copy tried
/// twice; but nothing to read-only pages, over which nothing was copied either. Of these `read_only` says by
/// page which they are, where there are any.
template <stream_ordered_backend Backend>
class row_copies {
  public:
    using stream_type = typename Backend::stream_type;

    row_copies(Backend& backend, address start, bytes row, const stream_type& stream,
               std::span<const std::uint8_t> read_only = {}, bytes page = bytes{1}) noexcept
        : backend_{&backend},
          start_{start},
          row_{row},
          stride_{row},
          stream_{&stream},
          read_only_{read_only},
          page_{page} {}
    /// Of rows that begin `stride` apart: where that is more than a row, each is a copy of its own.
    row_copies(Backend& backend, address start, bytes row, bytes stride, const stream_type& stream) noexcept
        : row_copies{backend, start, row, stream} {
        stride_ = stride;
    }

    [[nodiscard]] status queue(std::span<const defrag::row_move> moves) noexcept {
        for (std::size_t index = 0; index < moves.size(); ++index) {
            const row_pieces pieces = pieces_of(moves[index]);
            for (std::size_t piece = 0; piece < pieces.count(); ++piece) {
                const defrag::row_move part = pieces[piece];
                if (const status outcome = copy(part.from, part.to, part.count); !outcome) {
                    back(pieces, piece);
                    queue_back(moves.first(index));
                    return outcome;
                }
            }
        }
        return {};
    }
    void queue_back(std::span<const defrag::row_move> moves) noexcept {
        for (std::size_t index = moves.size(); index-- > 0;) {
            const row_pieces pieces = pieces_of(moves[index]);
            back(pieces, pieces.count());
        }
    }

  private:
    [[nodiscard]] row_pieces pieces_of(const defrag::row_move& move) const noexcept {
        return {move, stride_ == row_ ? std::size_t{move.count} : std::size_t{1}};
    }
    void back(const row_pieces& pieces, std::size_t done) noexcept {
        for (std::size_t piece = done; piece-- > 0;) {
            const defrag::row_move part = pieces[piece];
            const bytes begin = stride_ * part.from;
            const bytes end = begin + row_ * part.count;
            for (bytes first = begin, last; first < end; first = last) {
                last = end_of_run(first, end);
                if (!is_read_only(first))
                    put_back(first, stride_ * part.to + (first - begin), last - first);
            }
        }
    }
    void put_back(bytes to, bytes from, bytes size) noexcept {
        const auto again = [&] { return backend_->copy(start_ + to, start_ + from, size, *stream_); };
        if (!again())
            static_cast<void>(again());
    }
    [[nodiscard]] bool is_read_only(bytes offset) const noexcept {
        const std::size_t page = offset / page_;
        return page < read_only_.size() && read_only_[page] != 0;
    }
    /// Of the bytes from `first` on, the end of those that lie on pages of the same kind.
    [[nodiscard]] bytes end_of_run(bytes first, bytes end) const noexcept {
        if (read_only_.empty())
            return end;
        bytes next = first;
        while (next < end && is_read_only(next) == is_read_only(first))
            next = page_ * (next / page_ + 1);
        return std::min(next, end);
    }
    status copy(slot_type from, slot_type to, std::uint32_t count) noexcept {
        return backend_->copy(start_ + stride_ * to, start_ + stride_ * from, row_ * count, *stream_);
    }

    Backend* backend_;
    address start_;
    bytes row_;
    bytes stride_;
    const stream_type* stream_;
    std::span<const std::uint8_t> read_only_;
    bytes page_;
};

} // namespace vtensor::detail
