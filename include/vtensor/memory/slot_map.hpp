// SPDX-License-Identifier: Apache-2.0
//
// The positions of a tensor's rows, by slot, and which slots are dead. It knows nothing of memory: moving the
// rows themselves is defragmentation.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/core/rows.hpp>

#include <algorithm>
#include <cstddef>
#include <new>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace vtensor {

/// Slot → position. Until the first eviction every row's position is its slot, and the map takes no memory;
/// then 4 bytes a slot, and as many again from the first growth or defragmentation on. Used by one thread at
/// a time.
class slot_map {
  public:
    /// The most positions there are; also the most slots.
    static constexpr std::size_t most = no_position;

    [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] std::size_t live() const noexcept { return live_; }
    /// Of the row that is appended next.
    [[nodiscard]] position_type next() const noexcept { return next_; }
    /// By slot, `no_position` where dead. Empty as long as every position is its slot.
    [[nodiscard]] std::span<const position_type> positions() const noexcept { return positions_; }
    [[nodiscard]] position_type position(slot_type slot) const noexcept {
        return identity_ ? slot : positions_[slot];
    }

    // ---- rows come and go at the end ----

    /// Room for `rows` rows, so that `resize` cannot fail. `limit_exceeded` where there are no positions left
    /// for them. What `positions()` refers to stays where it is, so that another thread may read it
    /// meanwhile.
    [[nodiscard]] status prepare(std::size_t rows) noexcept {
        if (rows <= rows_)
            return {};
        if (rows - rows_ > most - next_)
            return error{errc::limit_exceeded, verb::grow, 0, bytes{rows}};
        if (rows <= prepared())
            return {};
        moved_.clear();
        return room(moved_, std::max(rows, 2 * positions_.capacity()), verb::grow);
    }
    /// How many rows `resize` cannot fail with.
    [[nodiscard]] std::size_t prepared() const noexcept {
        const std::size_t nameable = rows_ + (most - next_);
        const std::size_t room = std::max(positions_.capacity(), moved_.capacity());
        return identity_ ? nameable : std::min(nameable, room);
    }
    /// Rows that are added continue with the next position. Rows that are removed take their positions along
    /// where they are the newest, so that a sequence that is taken back continues where it was.
    void resize(std::size_t rows) noexcept {
        if (rows == 0) {
            clear();
        } else if (rows > rows_) {
            extend(rows);
        } else if (rows < rows_) {
            cut(rows);
        }
    }
    /// Rows at position `first` and later are no more: cut off, or dead where one that stays lies behind
    /// them. Dead rows at the end are cut off too. The next position is `first`. O(rows) after an eviction.
    void take_back(position_type first) noexcept {
        if (first >= next_)
            return;
        if (identity_ || first == 0) {
            resize(first);
            return;
        }
        for (position_type& at : positions_) {
            if (at == no_position || at < first)
                continue;
            at = no_position;
            --live_;
        }
        while (!positions_.empty() && positions_.back() == no_position)
            positions_.pop_back();
        rows_ = positions_.size();
        next_ = first;
    }
    /// No rows, and none ever: the next position is 0.
    void clear() noexcept {
        positions_.clear();
        identity_ = true;
        rows_ = live_ = 0;
        next_ = 0;
    }

    /// As `other` would be if it were cut to `rows` of its rows. `out_of_memory`: nothing changed. O(rows).
    [[nodiscard]] status copy_prefix(const slot_map& other, std::size_t rows) noexcept {
        try {
            slot_map copy;
            copy.positions_ = other.positions_;
            copy.rows_ = other.rows_;
            copy.live_ = other.live_;
            copy.next_ = other.next_;
            copy.identity_ = other.identity_;
            if (rows != other.rows_)
                copy.resize(rows);
            *this = std::move(copy);
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::share, 0, bytes{other.rows_ * sizeof(position_type)}};
        }
        return {};
    }

    // ---- rows die ----

    /// Whether all rows but `kept` may be evicted: `kept` is sorted, without duplicates, and of live slots,
    /// otherwise `invalid_argument`. Takes the memory that `evict` needs. O(rows) the first time, O(kept)
    /// later.
    [[nodiscard]] status prepare_eviction(std::span<const slot_type> kept) noexcept {
        for (std::size_t index = 0; index < kept.size(); ++index) {
            const slot_type slot = kept[index];
            if (slot >= rows_ || position(slot) == no_position || (index > 0 && kept[index - 1] >= slot))
                return error{errc::invalid_argument, verb::evict, 0, bytes{0}};
        }
        return !identity_ || kept.size() == rows_ ? status{} : room(positions_, rows_, verb::evict);
    }
    /// After `prepare_eviction` said yes to the same `kept`. O(rows).
    void evict(std::span<const slot_type> kept) noexcept {
        if (kept.size() == live_)
            return;
        live_ = kept.size();
        if (identity_) {
            positions_.resize(rows_);
            std::iota(positions_.begin(), positions_.end(), position_type{0});
            identity_ = false;
        }
        auto dead = positions_.begin();
        for (const slot_type slot : kept) {
            const auto living = positions_.begin() + static_cast<std::ptrdiff_t>(slot);
            std::fill(dead, living, no_position);
            dead = living + 1;
        }
        std::fill(dead, positions_.end(), no_position);
    }

    // ---- rows move ----

    /// Works out where the moves lead, for `commit`, and refuses with `invalid_argument` a plan that would
    /// lose a live row. Changes nothing that can be seen. O(rows).
    [[nodiscard]] status rearrange(const defrag::plan& moves) noexcept {
        moved_.clear();
        if (moves.rows_after > rows_ || !are_inside(moves))
            return refusal();
        if (identity_) // all rows live, so that none may move or go
            return moves.rows_after == rows_ && moves.rows.empty() && moves.blocks.empty() ? status{}
                                                                                           : refusal();
        if (const status outcome = room(moved_, rows_, verb::defragment); !outcome)
            return outcome;
        moved_ = positions_;
        bool lost = false;
        const std::size_t block = moves.block_rows;
        defrag::for_each_exchange(moves.blocks, [&](std::size_t from, std::size_t to) {
            lost = lost || !exchange(from * block, to * block, block);
        });
        for (const defrag::row_move& move : moves.rows)
            copy(move);
        // A row that was overwritten is missing here, as one that lies behind the end.
        const auto end = moved_.begin() + static_cast<std::ptrdiff_t>(moves.rows_after);
        const auto dead = std::count(moved_.begin(), end, no_position);
        lost = lost || moves.rows_after - static_cast<std::size_t>(dead) != live_;
        return lost ? refusal() : status{};
    }
    /// The rows are where `rearrange` said.
    void commit(std::size_t rows_after) noexcept {
        if (!identity_) {
            std::swap(positions_, moved_);
            positions_.resize(rows_after);
        }
        rows_ = rows_after;
    }

    /// Checks the map's own figures, O(rows).
    [[nodiscard]] bool verify() const noexcept {
        if (identity_)
            return rows_ == live_ && rows_ == next_ && positions_.empty();
        std::size_t live = 0;
        bool older = true;
        for (const position_type at : positions_) {
            live += at != no_position ? 1u : 0u;
            older = older && (at == no_position || at < next_);
        }
        return positions_.size() == rows_ && live == live_ && older;
    }

  private:
    static error refusal() noexcept { return error{errc::invalid_argument, verb::defragment, 0, bytes{0}}; }
    static status room(std::vector<position_type>& in, std::size_t rows, verb during) noexcept {
        try {
            in.reserve(rows);
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, during, 0, bytes{rows * sizeof(position_type)}};
        }
        return {};
    }

    void extend(std::size_t rows) noexcept {
        const std::size_t added = rows - rows_;
        if (!identity_) {
            if (rows > positions_.capacity()) { // `prepare` made the room there
                moved_.assign(positions_.begin(), positions_.end());
                positions_.swap(moved_);
            }
            positions_.resize(rows);
            std::iota(positions_.begin() + static_cast<std::ptrdiff_t>(rows_), positions_.end(), next_);
        }
        rows_ = rows;
        live_ += added;
        next_ += static_cast<position_type>(added);
    }
    void cut(std::size_t rows) noexcept {
        if (identity_) {
            live_ -= rows_ - rows;
            rows_ = rows;
            next_ = static_cast<position_type>(rows);
            return;
        }
        position_type oldest_cut = no_position;
        position_type newest_kept = 0;
        for (std::size_t slot = 0; slot < rows_; ++slot) {
            const position_type at = positions_[slot];
            if (at == no_position)
                continue;
            if (slot < rows) {
                newest_kept = std::max(newest_kept, at);
            } else {
                oldest_cut = std::min(oldest_cut, at);
                --live_;
            }
        }
        if (oldest_cut != no_position && oldest_cut > newest_kept)
            next_ = oldest_cut;
        positions_.resize(rows);
        rows_ = rows;
    }

    [[nodiscard]] bool are_inside(const defrag::plan& moves) const noexcept {
        const std::size_t blocks =
            moves.block_rows == 0 ? 0 : (rows_ + moves.block_rows - 1) / moves.block_rows;
        for (const defrag::block_move& move : moves.blocks) {
            if (move.count > blocks || move.from > blocks - move.count || move.to > blocks - move.count)
                return false;
        }
        return std::all_of(moves.rows.begin(), moves.rows.end(), [this](const defrag::row_move& move) {
            return move.count <= rows_ && move.from <= rows_ - move.count && move.to <= rows_ - move.count;
        });
    }
    /// Two blocks change places; where the later one ends early its missing rows are dead ones. False where a
    /// live row would come to lie behind the last slot.
    bool exchange(std::size_t first, std::size_t second, std::size_t count) noexcept {
        if (first > second)
            std::swap(first, second);
        const std::size_t there = std::min(count, rows_ - second);
        const auto at = [this](std::size_t slot) {
            return moved_.begin() + static_cast<std::ptrdiff_t>(slot);
        };
        if (first == second)
            return true;
        if (std::any_of(at(first + there), at(first + count),
                        [](position_type one) { return one != no_position; }))
            return false;
        std::swap_ranges(at(first), at(first + there), at(second));
        return true;
    }
    /// One row after another: each leaves a dead slot, so that a run may slide over itself.
    void copy(const defrag::row_move& move) noexcept {
        position_type* const from = moved_.data() + move.from;
        position_type* const to = moved_.data() + move.to;
        if (move.to < move.from) {
            for (std::size_t row = 0; row < move.count; ++row)
                to[row] = std::exchange(from[row], no_position);
        } else if (move.to > move.from) {
            for (std::size_t row = move.count; row-- > 0;)
                to[row] = std::exchange(from[row], no_position);
        }
    }

    std::vector<position_type> positions_;
    std::vector<position_type>
        moved_; ///< what `rearrange` worked out; between two of them, room to grow into
    std::size_t rows_ = 0;
    std::size_t live_ = 0;
    position_type next_ = 0;
    bool identity_ = true; ///< every position is its slot, and `positions_` is empty
};

} // namespace vtensor
