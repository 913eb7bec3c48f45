// SPDX-License-Identifier: Apache-2.0
//
// How many tokens a cache has and how many it can have. The two numbers may lie apart from the cache, those
// of many sequences side by side: a step of all of them then reads nothing of their caches.
#pragma once

#include <atomic>
#include <cstddef>

namespace vtensor::kv {

/// Written by the thread that owns the cache, `ready` by one that prepares it too; may be read from anywhere.
class token_counts {
  public:
    [[nodiscard]] std::size_t tokens() const noexcept { return tokens_.load(std::memory_order_relaxed); }
    /// How many there can be without mapping anything; never less than `tokens()`.
    [[nodiscard]] std::size_t ready() const noexcept { return ready_.load(std::memory_order_acquire); }

    /// `count` tokens more. False, and nothing is changed, where so many are not ready. O(1).
    [[nodiscard]] bool try_add(std::size_t count) noexcept {
        const std::size_t before = tokens();
        if (count > ready() - before)
            return false;
        set_tokens(before + count);
        return true;
    }
    void set_tokens(std::size_t tokens) noexcept { tokens_.store(tokens, std::memory_order_relaxed); }
    void set_ready(std::size_t ready) noexcept { ready_.store(ready, std::memory_order_release); }

  private:
    std::atomic<std::size_t> tokens_{0};
    std::atomic<std::size_t> ready_{0};
};

} // namespace vtensor::kv
