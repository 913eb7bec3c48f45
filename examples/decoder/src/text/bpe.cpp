// SPDX-License-Identifier: Apache-2.0
#include "text/bpe.hpp"

#include "io/input_error.hpp"

#include <queue>
#include <tuple>

namespace decoder {

namespace {

constexpr std::size_t none = ~std::size_t{0};

/// A token of the piece, linked to its living neighbours; `token` is -1 once it was merged into its left one.
struct symbol {
    int token;
    std::size_t previous, next;
};

/// A merge that may be possible: the lowest rank first, then the leftmost.
struct candidate {
    std::uint32_t rank;
    std::size_t left;
    int joined;

    friend bool operator>(const candidate& a, const candidate& b) noexcept {
        return std::tie(a.rank, a.left) > std::tie(b.rank, b.left);
    }
};

} // namespace

bool bpe::add_token(const std::string& bytes, int id) {
    if (bytes.size() == 1)
        byte_tokens_[static_cast<unsigned char>(bytes.front())] = id;
    return tokens_.emplace(bytes, id).second;
}

bool bpe::add_merge(const std::string& left, const std::string& right) {
    const auto first = find(left);
    const auto second = find(right);
    const auto joined = find(left + right);
    if (!first || !second || !joined)
        return false;
    merges_.emplace(key(*first, *second), merge{static_cast<std::uint32_t>(merges_.size()), *joined});
    return true;
}

std::optional<int> bpe::find(const std::string& bytes) const {
    const auto found = tokens_.find(bytes);
    return found == tokens_.end() ? std::nullopt : std::optional{found->second};
}

int bpe::token_of_byte(char byte) const {
    const int token = byte_tokens_[static_cast<unsigned char>(byte)];
    if (token < 0 && !unknown_)
        refuse("the tokenizer has no token for byte " + std::to_string(static_cast<unsigned char>(byte)) +
               " of the prompt; leave that character out");
    return token < 0 ? *unknown_ : token;
}

void bpe::encode(std::string_view piece, std::vector<int>& tokens) const {
    if (whole_tokens_first_)
        if (const auto whole = find(std::string{piece})) {
            tokens.push_back(*whole);
            return;
        }

    std::vector<symbol> symbols;
    for (std::size_t i = 0; i < piece.size(); ++i)
        symbols.push_back(
            {token_of_byte(piece[i]), i == 0 ? none : i - 1, i + 1 == piece.size() ? none : i + 1});

    std::priority_queue<candidate, std::vector<candidate>, std::greater<>> queue;
    const auto consider = [&](std::size_t left) {
        if (left == none || symbols[left].next == none)
            return;
        const auto found = merges_.find(key(symbols[left].token, symbols[symbols[left].next].token));
        if (found != merges_.end())
            queue.push({found->second.rank, left, found->second.joined});
    };
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
        consider(i);

    while (!queue.empty()) {
        const candidate best = queue.top();
        queue.pop();
        symbol& left = symbols[best.left];
        if (left.token < 0 || left.next == none)
            continue;
        symbol& right = symbols[left.next];
        const auto found = merges_.find(key(left.token, right.token));
        if (found == merges_.end() || found->second.rank != best.rank)
            continue; // one of the two has changed since
        left.token = best.joined;
        right.token = -1;
        left.next = right.next;
        if (left.next != none)
            symbols[left.next].previous = best.left;
        consider(left.previous);
        consider(best.left);
    }
    for (const symbol& part : symbols)
        if (part.token >= 0)
            tokens.push_back(part.token);
}

} // namespace decoder
