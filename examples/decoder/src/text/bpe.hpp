// SPDX-License-Identifier: Apache-2.0
//
// Byte-pair merging (arXiv 1508.07909) over bytes: a vocabulary, ranked merges, and the tokens of one piece
// of text. Knows nothing of pre-tokenizers, special tokens or files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace decoder {

class bpe {
  public:
    bpe() { byte_tokens_.fill(-1); }

    /// Adds the token `id` that stands for `bytes`. False where another token stands for them already.
    bool add_token(const std::string& bytes, int id);
    /// Adds the next merge, of lower rank than all before it: two tokens become the one that stands for their
    /// joined bytes. False where one of the three is not in the vocabulary.
    bool add_merge(const std::string& left, const std::string& right);
    /// Takes a piece that is itself a token as that token, whatever the merges say (Llama 3).
    void ignore_merges_for_whole_tokens(bool ignore) noexcept { whole_tokens_first_ = ignore; }
    /// What to use for a byte that is in no token.
    void set_unknown(int id) noexcept { unknown_ = id; }

    [[nodiscard]] std::optional<int> find(const std::string& bytes) const;

    /// Appends the tokens of one piece; O(n log n). Refuses a byte without a token with `input_error`.
    void encode(std::string_view piece, std::vector<int>& tokens) const;

  private:
    struct merge {
        std::uint32_t rank;
        int joined;
    };

    [[nodiscard]] static std::uint64_t key(int left, int right) noexcept {
        return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
               static_cast<std::uint32_t>(right);
    }
    [[nodiscard]] int token_of_byte(char byte) const;

    std::unordered_map<std::string, int> tokens_;
    std::unordered_map<std::uint64_t, merge> merges_;
    std::array<int, 256> byte_tokens_{};
    std::optional<int> unknown_;
    bool whole_tokens_first_ = false;
};

} // namespace decoder
