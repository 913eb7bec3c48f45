// SPDX-License-Identifier: Apache-2.0
//
// The tokens of one edge of a prefix tree. What one insertion brought is one contiguous array; the edges that
// it is cut into later share it, so that a cut copies nothing and takes no memory. Arrays of one edge each
// would have to be copied at every cut.
#pragma once

#include <vtensor/kv/token.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::kv::detail {

/// How many tokens the two have in common at their beginnings.
[[nodiscard]] inline std::size_t common_prefix(std::span<const token_id> one,
                                               std::span<const token_id> other) noexcept {
    constexpr std::size_t block = 64; // long enough that the comparison of memory runs at its speed
    const std::size_t most = std::min(one.size(), other.size());
    std::size_t same = 0;
    while (same + block <= most &&
           std::memcmp(one.data() + same, other.data() + same, block * sizeof(token_id)) == 0)
        same += block;
    while (same < most && one[same] == other[same])
        ++same;
    return same;
}

/// A part of a shared array. The parts of an array must go last one first: what is given up is always its
/// end.
class token_run {
  public:
    /// No tokens.
    token_run() noexcept = default;
    /// A copy of the tokens, at least one; empty where there is no memory. O(tokens).
    [[nodiscard]] static token_run copy_of(std::span<const token_id> tokens) noexcept {
        token_run made;
        try {
            auto fresh = std::make_unique<array>();
            fresh->tokens.assign(tokens.begin(), tokens.end());
            made.array_ = fresh.release();
            made.first_ = made.array_->tokens.data();
            made.count_ = tokens.size();
        } catch (const std::bad_alloc&) {
        }
        return made;
    }
    token_run(token_run&& other) noexcept
        : first_{other.first_},
          count_{std::exchange(other.count_, 0)},
          array_{std::exchange(other.array_, nullptr)} {}
    token_run& operator=(token_run&& other) noexcept {
        std::swap(first_, other.first_);
        std::swap(count_, other.count_);
        std::swap(array_, other.array_);
        return *this;
    }
    ~token_run() {
        if (array_ != nullptr && --array_->runs == 0)
            delete array_;
    }

    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] std::span<const token_id> tokens() const noexcept { return {first_, count_}; }

    /// The first `count` tokens become a run of their own. O(1).
    [[nodiscard]] token_run take_front(std::size_t count) noexcept {
        token_run front = part(first_, count);
        first_ += count;
        count_ -= count;
        return front;
    }

    // ---- giving memory back ----

    [[nodiscard]] bool shares_array_with(const token_run& other) const noexcept {
        return array_ != nullptr && array_ == other.array_;
    }
    /// Whether so little of a long array is left without this run, its last, that the rest should move.
    [[nodiscard]] bool leaves_little() const noexcept {
        constexpr std::size_t least = 256;
        const std::size_t all = array_->tokens.size(), rest = offset();
        return all >= least && rest > 0 && 2 * rest <= all;
    }
    /// What the array has before this run.
    [[nodiscard]] std::span<const token_id> before() const noexcept {
        return std::span{array_->tokens}.first(offset());
    }
    /// The same tokens in another array, which begins as this one does.
    void move_to(const token_run& other) noexcept {
        *this = other.part(other.array_->tokens.data() + offset(), count_);
    }

  private:
    struct array {
        std::vector<token_id> tokens;
        std::size_t runs = 1;
    };

    [[nodiscard]] std::size_t offset() const noexcept {
        return static_cast<std::size_t>(first_ - array_->tokens.data());
    }
    [[nodiscard]] token_run part(const token_id* first, std::size_t count) const noexcept {
        token_run made;
        made.first_ = first;
        made.count_ = count;
        made.array_ = array_;
        ++array_->runs;
        return made;
    }

    const token_id* first_ = nullptr;
    std::size_t count_ = 0;
    array* array_ = nullptr;
};

} // namespace vtensor::kv::detail
