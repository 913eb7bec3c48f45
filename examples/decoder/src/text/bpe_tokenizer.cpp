// SPDX-License-Identifier: Apache-2.0
#include "text/bpe_tokenizer.hpp"

#include "text/unicode.hpp"
#include "text/utf8.hpp"

#include <algorithm>
#include <utility>

namespace decoder {

namespace {

/// The position behind the white space that begins at `at`.
std::size_t skip_blanks(std::string_view text, std::size_t at) {
    while (at < text.size()) {
        const utf8_head head = first_character(text.substr(at));
        if (!head.is_valid || !is_space(head.code_point))
            break;
        at += head.length;
    }
    return at;
}

/// The beginning of the white space that ends at `at`, not before `first`.
std::size_t skip_blanks_back(std::string_view text, std::size_t first, std::size_t at) {
    std::size_t begin = at;
    for (std::size_t from = at; from-- > first;) {
        const utf8_head head = first_character(text.substr(from, begin - from));
        if (head.is_valid && head.length == begin - from) {
            if (!is_space(head.code_point))
                break;
            begin = from;
        } else if (begin - from >= 4) {
            break;
        }
    }
    return begin;
}

} // namespace

bpe_tokenizer::bpe_tokenizer(bpe_parts parts) : parts_{std::move(parts)}, added_by_first_byte_(256) {
    for (const added_token& token : parts_.added)
        added_by_first_byte_[static_cast<unsigned char>(token.content.front())].push_back(token);
    for (auto& tokens : added_by_first_byte_)
        std::stable_sort(tokens.begin(), tokens.end(), [](const added_token& left, const added_token& right) {
            return left.content.size() > right.content.size();
        });
}

const added_token* bpe_tokenizer::added_at(std::string_view text, std::size_t at) const {
    for (const added_token& token : added_by_first_byte_[static_cast<unsigned char>(text[at])])
        if (text.substr(at).starts_with(token.content))
            return &token;
    return nullptr;
}

std::vector<bpe_tokenizer::match> bpe_tokenizer::find_added(std::string_view text) const {
    std::vector<match> found;
    std::size_t free_from = 0;
    for (std::size_t at = 0; at < text.size();) {
        const added_token* const token = added_at(text, at);
        if (token == nullptr) {
            ++at;
            continue;
        }
        const std::size_t end = at + token->content.size();
        found.push_back({token->takes_left_blanks ? skip_blanks_back(text, free_from, at) : at,
                         token->takes_right_blanks ? skip_blanks(text, end) : end, token->id});
        at = free_from = found.back().end;
    }
    return found;
}

void bpe_tokenizer::encode_plain(std::string_view text, std::vector<int>& tokens) const {
    if (text.empty())
        return;
    for (const std::string& piece : pre_tokenize(text, parts_.steps))
        parts_.merges.encode(piece, tokens);
}

std::vector<int> bpe_tokenizer::encode(std::string_view text) const {
    std::vector<int> tokens = parts_.in_front;
    std::size_t done = 0;
    for (const match& found : find_added(text)) {
        encode_plain(text.substr(done, found.begin - done), tokens);
        tokens.push_back(found.token);
        done = found.end;
    }
    encode_plain(text.substr(done), tokens);
    tokens.insert(tokens.end(), parts_.behind.begin(), parts_.behind.end());
    return tokens;
}

std::string_view bpe_tokenizer::bytes_of_token(int token) const {
    const auto found = parts_.bytes.find(token);
    return found == parts_.bytes.end() ? std::string_view{} : std::string_view{found->second};
}

} // namespace decoder
