// SPDX-License-Identifier: Apache-2.0
#include "text/pre_tokenizer.hpp"

#include "text/unicode.hpp"
#include "text/utf8.hpp"

#include <cstddef>

namespace decoder {

namespace {

enum class kind : std::uint8_t { letter, number, space, newline, other };

struct character {
    char32_t code_point;
    std::size_t offset;
    kind is;
};

kind classify(char32_t code_point) noexcept {
    if (code_point == '\r' || code_point == '\n')
        return kind::newline;
    if (is_space(code_point))
        return kind::space;
    if (is_letter(code_point))
        return kind::letter;
    return is_number(code_point) ? kind::number : kind::other;
}

/// A text as characters, and the parts that both expressions are made of. Positions count characters; every
/// matcher returns the position behind its match, or the position it started from where it does not match.
class matcher {
  public:
    explicit matcher(std::string_view text) : text_{text} {
        for (std::size_t at = 0; at < text.size();) {
            const utf8_head head = first_character(text.substr(at));
            characters_.push_back(
                {head.code_point, at, head.is_valid ? classify(head.code_point) : kind::other});
            at += head.length;
        }
    }

    [[nodiscard]] std::vector<std::string_view> cut(split_rule rule) const {
        std::vector<std::string_view> pieces;
        for (std::size_t at = 0; at < characters_.size();) {
            const std::size_t end = match(at, rule);
            pieces.push_back(text_.substr(characters_[at].offset, offset(end) - characters_[at].offset));
            at = end;
        }
        return pieces;
    }

  private:
    [[nodiscard]] std::size_t offset(std::size_t at) const noexcept {
        return at < characters_.size() ? characters_[at].offset : text_.size();
    }
    [[nodiscard]] bool is(std::size_t at, kind what) const noexcept {
        return at < characters_.size() && characters_[at].is == what;
    }
    [[nodiscard]] bool is_blank(std::size_t at) const noexcept {
        return is(at, kind::space) || is(at, kind::newline);
    }
    [[nodiscard]] bool has(std::size_t at, char32_t code_point) const noexcept {
        return at < characters_.size() && characters_[at].code_point == code_point;
    }

    [[nodiscard]] std::size_t run(std::size_t at, kind what) const noexcept {
        while (is(at, what))
            ++at;
        return at;
    }

    /// 's 't 're 've 'm 'll 'd
    [[nodiscard]] std::size_t contraction(std::size_t at, bool case_blind) const noexcept {
        if (!has(at, U'\''))
            return at;
        const auto lower = [&](std::size_t where) -> char32_t {
            if (where >= characters_.size())
                return 0;
            const char32_t c = characters_[where].code_point;
            if (case_blind && c == 0x17F) // the long s folds to s
                return U's';
            return case_blind && c >= U'A' && c <= U'Z' ? c + 32 : c;
        };
        const char32_t first = lower(at + 1);
        const char32_t second = lower(at + 2);
        if (first == U's' || first == U't' || first == U'm' || first == U'd')
            return at + 2;
        const bool is_pair =
            ((first == U'r' || first == U'v') && second == U'e') || (first == U'l' && second == U'l');
        return is_pair ? at + 3 : at;
    }

    /// " ?" in front of a run.
    [[nodiscard]] std::size_t spaced_run(std::size_t at, kind what) const noexcept {
        const std::size_t start = has(at, U' ') ? at + 1 : at;
        const std::size_t end = run(start, what);
        return end == start ? at : end;
    }

    /// \s+(?!\S)|\s+ : blanks, the last of them left to the word that follows.
    [[nodiscard]] std::size_t blanks(std::size_t at) const noexcept {
        std::size_t end = at;
        while (is_blank(end))
            ++end;
        return end < characters_.size() && end > at + 1 ? end - 1 : end;
    }

    /// \s*[\r\n]+ : blanks up to the last line break among them.
    [[nodiscard]] std::size_t line_breaks(std::size_t at) const noexcept {
        std::size_t end = at;
        for (std::size_t i = at; is_blank(i); ++i)
            if (is(i, kind::newline))
                end = i + 1;
        return end;
    }

    [[nodiscard]] std::size_t match_gpt2(std::size_t at) const noexcept {
        if (const auto end = contraction(at, false); end != at)
            return end;
        for (const kind what : {kind::letter, kind::number, kind::other})
            if (const auto end = spaced_run(at, what); end != at)
                return end;
        return blanks(at);
    }

    [[nodiscard]] std::size_t match_llama3(std::size_t at) const noexcept {
        if (const auto end = contraction(at, true); end != at)
            return end;
        const bool has_prefix = is(at, kind::space) || is(at, kind::other);
        if (const auto word = has_prefix ? at + 1 : at; is(word, kind::letter))
            return run(word, kind::letter);
        if (is(at, kind::number)) {
            const auto end = run(at, kind::number);
            return end < at + 3 ? end : at + 3;
        }
        if (const auto end = spaced_run(at, kind::other); end != at)
            return run(end, kind::newline);
        if (const auto end = line_breaks(at); end != at)
            return end;
        return blanks(at);
    }

    [[nodiscard]] std::size_t match_digits(std::size_t at, bool single) const noexcept {
        if (is(at, kind::number))
            return single ? at + 1 : run(at, kind::number);
        while (at < characters_.size() && !is(at, kind::number))
            ++at;
        return at;
    }

    [[nodiscard]] std::size_t match(std::size_t at, split_rule rule) const noexcept {
        switch (rule) {
        case split_rule::gpt2:
            return match_gpt2(at);
        case split_rule::llama3:
            return match_llama3(at);
        case split_rule::single_digit:
            return match_digits(at, true);
        case split_rule::digit_run:
            return match_digits(at, false);
        }
        return characters_.size();
    }

    std::string_view text_;
    std::vector<character> characters_;
};

} // namespace

std::optional<split_rule> rule_for(std::string_view regular_expression) noexcept {
    if (regular_expression ==
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")
        return split_rule::llama3;
    if (regular_expression == R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)")
        return split_rule::gpt2;
    return std::nullopt;
}

std::vector<std::string_view> split(std::string_view text, split_rule rule) {
    return matcher{text}.cut(rule);
}

std::vector<std::string> pre_tokenize(std::string_view text, const std::vector<split_step>& steps) {
    std::vector<std::string> pieces{std::string{text}};
    for (const split_step& step : steps) {
        std::vector<std::string> next;
        for (std::string& piece : pieces) {
            if (step.adds_space && !piece.starts_with(' '))
                piece.insert(piece.begin(), ' ');
            if (!step.rule)
                next.push_back(std::move(piece));
            else
                for (const std::string_view part : split(piece, *step.rule))
                    next.emplace_back(part);
        }
        pieces = std::move(next);
    }
    return pieces;
}

} // namespace decoder
