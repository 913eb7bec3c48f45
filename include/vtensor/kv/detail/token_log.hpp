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
#include <memory>
#include <span>

namespace vtensor::kv::detail {

/// Used by one thread, also where it is const. Whoever adds sees to it that there is room.
class token_log {
  public:
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// All of them; valid until the next change.
    [[nodiscard]] std::span<const token_id> view() const noexcept {
        settle();
        return {array_.get(), size_};
    }

    /// Room for `most`, of which the first `touched` have memory: else the step that comes there first would
    /// pay for a page fault. Logs whose tokens go to their arrays in different steps have a different
    /// `phase`. Throws where there is no memory.
    void reserve(std::size_t most, std::size_t touched, std::size_t phase) {
        array_ = std::make_unique_for_overwrite<token_id[]>(most);
        std::fill_n(array_.get(), std::min(most, touched), token_id{});
        phase_ = static_cast<std::uint8_t>(phase % newest_.size());
        clear();
    }
    void add(std::span<const token_id> tokens) noexcept {
        if (tokens.size() == 1) { // what a step does
            newest_[end_++] = tokens.front();
            ++size_;
            if (end_ == newest_.size()) {
                settle();
                first_ = end_ = 0;
            }
            return;
        }
        settle();
        std::copy(tokens.begin(), tokens.end(), array_.get() + size_);
        size_ += static_cast<std::uint32_t>(tokens.size());
    }
    /// Forgets those from `tokens` on.
    void truncate(std::size_t tokens) noexcept {
        settle();
        size_ = static_cast<std::uint32_t>(std::min(tokens, size()));
    }
    /// Keeps the room.
    void clear() noexcept {
        size_ = 0;
        first_ = end_ = phase_;
    }

  private:
    /// A few single stores, which wait for no page: no call of `memmove`.
    void settle() const noexcept {
        token_id* to = array_.get() + (size_ - (end_ - first_));
        for (std::size_t index = first_; index < end_; ++index)
            *to++ = newest_[index];
        first_ = end_ = phase_;
    }

    std::uint32_t size_ = 0;
    mutable std::uint8_t first_ = 0; ///< of what is valid in `newest_`, behind what is in the array
    mutable std::uint8_t end_ = 0;   ///< of that
    std::uint8_t phase_ = 0;
    std::array<token_id, 30> newest_{};
    std::unique_ptr<token_id[]> array_;
};

} // namespace vtensor::kv::detail
