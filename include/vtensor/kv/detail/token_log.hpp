// SPDX-License-Identifier: Apache-2.0
//
// The tokens of one sequence. The newest few lie in the record itself, so that a step which adds one token to
// each of many sequences touches records that lie side by side, and few arrays on pages of their own.
#pragma once

#include <vtensor/kv/token.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace vtensor::kv::detail {

/// An array of runs of 64 tokens. The run that the next token belongs to is in the record, and goes to its
/// place when it is full. Used by one thread, also where it is const. Whoever adds sees to it that there is
/// room.
class token_log {
  public:
    [[nodiscard]] std::size_t size() const noexcept { return end_ - first_; }

    /// All of them; valid until the next change.
    [[nodiscard]] std::span<const token_id> view() const noexcept {
        write_newest();
        return {array_ + first_, size()};
    }

    /// Bytes of the room for `most` tokens.
    [[nodiscard]] static constexpr std::size_t room_for(std::size_t most) noexcept {
        return (most / run + 2) * run * sizeof(token_id);
    }
    /// Its tokens lie in `room` from now on, which outlives it. Logs whose runs are full in different steps
    /// have a different `phase`.
    void use(token_id* room, std::size_t phase) noexcept {
        array_ = room;
        first_ = static_cast<std::uint32_t>(phase % run);
        clear();
    }
    void add(std::span<const token_id> tokens) noexcept {
        if (tokens.size() == 1) { // what a step does
            newest_[end_ % run] = tokens.front();
            if (++end_ % run == 0)
                std::memcpy(array_ + (end_ - run), newest_.data(), sizeof newest_);
            return;
        }
        write_newest();
        std::copy(tokens.begin(), tokens.end(), array_ + end_);
        end_ += static_cast<std::uint32_t>(tokens.size());
        read_newest();
    }
    /// Forgets those from `tokens` on.
    void truncate(std::size_t tokens) noexcept {
        if (tokens >= size())
            return;
        write_newest();
        end_ = first_ + static_cast<std::uint32_t>(tokens);
        read_newest();
    }
    /// Keeps the room.
    void clear() noexcept { end_ = first_; }

  private:
    static constexpr std::uint32_t run = 64; ///< tokens

    /// Where the run begins that the next token belongs to.
    [[nodiscard]] token_id* newest_run() const noexcept { return array_ + end_ / run * run; }
    void write_newest() const noexcept { std::copy_n(newest_.data(), end_ % run, newest_run()); }
    void read_newest() noexcept { std::copy_n(newest_run(), end_ % run, newest_.data()); }

    token_id* array_ = nullptr;
    std::uint32_t first_ = 0; ///< where the tokens begin in the array
    std::uint32_t end_ = 0;   ///< and end
    std::array<token_id, run> newest_{};
};

} // namespace vtensor::kv::detail
