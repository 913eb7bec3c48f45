// SPDX-License-Identifier: Apache-2.0
//
// Token sequences of one length that share beginnings as prompts do, and a random order to go through them.
#pragma once

#include <vtensor/kv/token.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <vector>

namespace vtensor::bench {

enum class sharing : std::uint8_t {
    none,           ///< every sequence is random from its first token
    system_prompts, ///< one of 16 beginnings, half the length, then random
    conversations,  ///< an earlier sequence up to the end of one of its 8 turns, then random
    branches,       ///< an earlier sequence up to any place, then random: a path has very many nodes
};

[[nodiscard]] constexpr const char* name(sharing kind) noexcept {
    switch (kind) {
    case sharing::none:
        return "random";
    case sharing::system_prompts:
        return "16 prompts";
    case sharing::conversations:
        return "8 turns";
    case sharing::branches:
        return "branches";
    }
    return "unnamed";
}

class sequences {
    static constexpr std::size_t beginnings = 16; ///< of `system_prompts`

  public:
    sequences(sharing kind, std::size_t count, std::size_t length)
        : length_{length}, tokens_(count * length), order_(count) {
        std::mt19937_64 random{count + length};
        std::iota(order_.begin(), order_.end(), std::size_t{0});
        for (std::size_t number = 0; number < count; ++number) {
            const std::size_t models = kind != sharing::system_prompts ? number
                                       : number < beginnings           ? 0
                                                                       : beginnings;
            const std::size_t shared = models == 0 ? 0 : shared_tokens(kind, random());
            const std::size_t with = models == 0 ? 0 : random() % models;
            const auto start = tokens_.begin() + static_cast<std::ptrdiff_t>(number * length);
            const auto from = tokens_.begin() + static_cast<std::ptrdiff_t>(with * length);
            const auto fresh = std::copy_n(from, shared, start);
            std::generate_n(fresh, length - shared,
                            [&] { return static_cast<kv::token_id>(random() % 128'000); });
        }
        std::ranges::shuffle(order_, random);
    }

    [[nodiscard]] std::size_t count() const noexcept { return order_.size(); }
    [[nodiscard]] std::size_t length() const noexcept { return length_; }
    [[nodiscard]] std::span<const kv::token_id> operator[](std::size_t number) const noexcept {
        return std::span{tokens_}.subspan(number * length_, length_);
    }
    /// Every number once.
    [[nodiscard]] const std::vector<std::size_t>& order() const noexcept { return order_; }

  private:
    [[nodiscard]] std::size_t shared_tokens(sharing kind, std::uint64_t choice) const noexcept {
        switch (kind) {
        case sharing::none:
            return 0;
        case sharing::system_prompts:
            return length_ / 2;
        case sharing::conversations:
            return choice % 8 * length_ / 8;
        case sharing::branches:
            return choice % length_;
        }
        return 0;
    }

    std::size_t length_;
    std::vector<kv::token_id> tokens_;
    std::vector<std::size_t> order_;
};

} // namespace vtensor::bench
