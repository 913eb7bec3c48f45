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
/// end, and at least half of the memory of a long array is in use.
class token_run {
  public:
    /// No tokens.
    token_run() noexcept = default;
    /// A copy of the tokens, at least one; empty where there is no memory. O(tokens).
    [[nodiscard]] static token_run copy_of(std::span<const token_id> tokens) noexcept {
        token_run made;
        try {
            auto fresh = std::make_unique<storage>();
            fresh->tokens.assign(tokens.begin(), tokens.end());
            made.storage_ = fresh.release();
            made.count_ = tokens.size();
        } catch (const std::bad_alloc&) {
        }
        return made;
    }
    token_run(token_run&& other) noexcept
        : storage_{std::exchange(other.storage_, nullptr)},
          first_{other.first_},
          count_{std::exchange(other.count_, 0)} {}
    token_run& operator=(token_run&& other) noexcept {
        std::swap(storage_, other.storage_);
        std::swap(first_, other.first_);
        std::swap(count_, other.count_);
        return *this;
    }
    ~token_run() {
        if (storage_ != nullptr)
            give_up();
    }

    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] std::span<const token_id> tokens() const noexcept {
        return storage_ == nullptr ? std::span<const token_id>{}
                                   : std::span{storage_->tokens}.subspan(first_, count_);
    }

    /// The first `count` tokens become a run of their own. O(1).
    [[nodiscard]] token_run take_front(std::size_t count) noexcept {
        token_run front;
        front.storage_ = storage_;
        front.first_ = first_;
        front.count_ = count;
        ++storage_->runs;
        first_ += count;
        count_ -= count;
        return front;
    }

  private:
    struct storage {
        std::vector<token_id> tokens;
        std::size_t runs = 1;
    };

    static constexpr std::size_t least_shrunk = 256;

    /// Amortised O(tokens given up).
    void give_up() noexcept {
        if (--storage_->runs == 0) {
            delete storage_;
            return;
        }
        storage_->tokens.resize(first_);
        const std::size_t capacity = storage_->tokens.capacity();
        if (capacity < least_shrunk || first_ > capacity / 2)
            return;
        try {
            storage_->tokens.shrink_to_fit();
        } catch (const std::bad_alloc&) { // it stays as large as it is
        }
    }

    storage* storage_ = nullptr;
    std::size_t first_ = 0;
    std::size_t count_ = 0;
};

} // namespace vtensor::kv::detail
