// SPDX-License-Identifier: Apache-2.0
//
// A byte-level BPE tokenizer in its parts, as a tokenizer.json describes them: added tokens, the cutting of
// what lies between them, the merging, and the tokens around every text. Built by tokenizer_json.cpp.
#pragma once

#include "text/bpe.hpp"
#include "text/pre_tokenizer.hpp"
#include "text/tokenizer.hpp"

#include <map>

namespace decoder {

/// A token that is found in the text itself, before anything is cut.
struct added_token {
    std::string content;
    int id = 0;
    bool takes_left_blanks = false;
    bool takes_right_blanks = false;
};

struct bpe_parts {
    bpe merges;
    std::map<int, std::string> bytes; ///< what each token shows; special tokens are left out
    std::vector<added_token> added;
    std::vector<split_step> steps;
    std::vector<int> in_front;
    std::vector<int> behind;
};

class bpe_tokenizer final : public tokenizer {
  public:
    explicit bpe_tokenizer(bpe_parts parts);

    [[nodiscard]] std::vector<int> encode(std::string_view text) const override;
    [[nodiscard]] std::string_view bytes_of_token(int token) const override;

  private:
    struct match {
        std::size_t begin, end;
        int token;
    };

    [[nodiscard]] const added_token* added_at(std::string_view text, std::size_t at) const;
    [[nodiscard]] std::vector<match> find_added(std::string_view text) const;
    void encode_plain(std::string_view text, std::vector<int>& tokens) const;

    bpe_parts parts_;
    std::vector<std::vector<added_token>> added_by_first_byte_; // the longest first
};

} // namespace decoder
