// SPDX-License-Identifier: Apache-2.0
//
// Reads a Hugging Face tokenizer.json into the parts of a bpe_tokenizer. Options that would change the tokens
// and are not implemented are refused by name.
#include "io/input_error.hpp"
#include "io/json_text.hpp"
#include "text/bpe_tokenizer.hpp"
#include "text/byte_alphabet.hpp"

#include <nlohmann/json.hpp>

#include <set>

namespace decoder {

namespace {

using nlohmann::json;

constexpr std::size_t deepest_tokenizer = 24;
constexpr std::size_t largest_token = std::size_t{1} << 24;

class tokenizer_reader {
  public:
    tokenizer_reader(const json& root, const std::string& what) : root_{root}, what_{what} {}

    [[nodiscard]] bpe_parts read() {
        if (!root_.is_object())
            complain("is not a JSON object");
        if (find(root_, "normalizer") != nullptr)
            complain("has a normalizer; only byte-level BPE without one is read");
        read_added_tokens();
        read_model();
        read_pre_tokenizer();
        read_post_processor();
        return std::move(parts_);
    }

  private:
    [[noreturn]] void complain(const std::string& trouble) const {
        refuse(what_ + " " + trouble + "; use a model with a byte-level BPE tokenizer in good order");
    }

    /// The field, where it is there and not null.
    [[nodiscard]] static const json* find(const json& object, const char* name) {
        if (!object.is_object())
            return nullptr;
        const auto found = object.find(name);
        return found == object.end() || found->is_null() ? nullptr : &*found;
    }

    [[nodiscard]] std::string text(const json& object, const char* name) const {
        const json* const value = find(object, name);
        if (value != nullptr && !value->is_string())
            complain(std::string{"has a \""} + name + "\" that is no text");
        return value == nullptr ? std::string{} : value->get<std::string>();
    }

    [[nodiscard]] bool flag(const json& object, const char* name, bool otherwise) const {
        const json* const value = find(object, name);
        if (value != nullptr && !value->is_boolean())
            complain(std::string{"has a \""} + name + "\" that is neither true nor false");
        return value == nullptr ? otherwise : value->get<bool>();
    }

    [[nodiscard]] const json& list(const json& object, const char* name) const {
        const json* const value = find(object, name);
        if (value == nullptr || !value->is_array())
            complain(std::string{"lacks the list \""} + name + "\"");
        return *value;
    }

    [[nodiscard]] int token_number(const json& value) const {
        if (!value.is_number_unsigned() || value.get<std::size_t>() >= largest_token)
            complain("has a token number out of range");
        return value.get<int>();
    }

    void read_added_tokens() {
        const json* const tokens = find(root_, "added_tokens");
        if (tokens == nullptr)
            return;
        for (const json& entry : list(root_, "added_tokens")) {
            const json* const id = find(entry, "id");
            added_token token{text(entry, "content"), id == nullptr ? 0 : token_number(*id),
                              flag(entry, "lstrip", false), flag(entry, "rstrip", false)};
            if (id == nullptr || token.content.empty())
                complain("has an added token without number or text");
            if (flag(entry, "single_word", false))
                complain("has an added token that must stand as a single word");
            if (flag(entry, "special", false))
                special_.insert(token.id);
            else
                parts_.bytes[token.id] = token.content;
            parts_.added.push_back(std::move(token));
        }
    }

    void read_model() {
        const json* const model = find(root_, "model");
        if (model == nullptr || text(*model, "type") != "BPE")
            complain("does not describe a BPE model");
        if (flag(*model, "byte_fallback", false))
            complain("describes a SentencePiece vocabulary (byte_fallback)");
        if (find(*model, "dropout") != nullptr && *find(*model, "dropout") != 0)
            complain("asks for dropout");
        for (const char* const name : {"continuing_subword_prefix", "end_of_word_suffix"})
            if (!text(*model, name).empty())
                complain(std::string{"asks for a \""} + name + "\"");
        parts_.merges.ignore_merges_for_whole_tokens(flag(*model, "ignore_merges", false));
        read_vocabulary(*model);
        read_merges(*model);
    }

    void read_vocabulary(const json& model) {
        const json* const vocabulary = find(model, "vocab");
        if (vocabulary == nullptr || !vocabulary->is_object() || vocabulary->empty())
            complain("has no vocabulary");
        for (const auto& [symbols, value] : vocabulary->items()) {
            const int id = token_number(value);
            const auto bytes = bytes_of(symbols);
            if (bytes && !bytes->empty())
                parts_.merges.add_token(*bytes, id);
            if (special_.count(id) == 0)
                parts_.bytes.emplace(id, bytes.value_or(symbols));
        }
        const std::string unknown = text(model, "unk_token");
        if (const auto found = vocabulary->find(unknown); !unknown.empty() && found != vocabulary->end())
            parts_.merges.set_unknown(token_number(*found));
    }

    /// A merge is "left right" or, in newer files, ["left", "right"].
    [[nodiscard]] std::pair<std::string, std::string> read_pair(const json& merge) const {
        if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
            return {merge[0].get<std::string>(), merge[1].get<std::string>()};
        const std::string line = merge.is_string() ? merge.get<std::string>() : std::string{};
        const std::size_t space = line.find(' ');
        if (space == std::string::npos)
            complain("has a merge that is no pair");
        return {line.substr(0, space), line.substr(space + 1)};
    }

    void read_merges(const json& model) {
        for (const json& merge : list(model, "merges")) {
            const auto [left, right] = read_pair(merge);
            const auto first = bytes_of(left);
            const auto second = bytes_of(right);
            if (!first || !second || !parts_.merges.add_merge(*first, *second))
                complain("merges \"" + printable(left) + "\" and \"" + printable(right) +
                         "\", which are not tokens of a byte-level vocabulary");
        }
    }

    void read_pre_tokenizer() {
        const json* const pre = find(root_, "pre_tokenizer");
        if (pre == nullptr)
            complain("has no pre-tokenizer");
        if (text(*pre, "type") == "Sequence")
            for (const json& step : list(*pre, "pretokenizers"))
                read_step(step);
        else
            read_step(*pre);
        if (!is_byte_level_)
            complain("has no ByteLevel pre-tokenizer");
    }

    void read_step(const json& step) {
        const std::string type = text(step, "type");
        if (is_byte_level_)
            complain("has a pre-tokenizer behind ByteLevel");
        if (type == "ByteLevel") {
            is_byte_level_ = true;
            parts_.steps.push_back(
                {flag(step, "add_prefix_space", true),
                 flag(step, "use_regex", true) ? std::optional{split_rule::gpt2} : std::nullopt});
        } else if (type == "Digits") {
            parts_.steps.push_back({false, flag(step, "individual_digits", false) ? split_rule::single_digit
                                                                                  : split_rule::digit_run});
        } else if (type == "Split") {
            const json* const pattern = find(step, "pattern");
            const auto rule = pattern == nullptr ? std::nullopt : rule_for(text(*pattern, "Regex"));
            if (!rule || text(step, "behavior") != "Isolated" || flag(step, "invert", false))
                complain("splits by an expression that is not known; GPT-2's and Llama 3's are");
            parts_.steps.push_back({false, rule});
        } else {
            complain("has a pre-tokenizer of the type \"" + printable(type) + "\"");
        }
    }

    void read_post_processor() {
        const json* const post = find(root_, "post_processor");
        if (post == nullptr)
            return;
        if (text(*post, "type") == "Sequence")
            for (const json& part : list(*post, "processors"))
                read_processor(part);
        else
            read_processor(*post);
    }

    void read_processor(const json& processor) {
        const std::string type = text(processor, "type");
        if (type == "ByteLevel") // trims offsets, which nobody asks for here
            return;
        if (type != "TemplateProcessing")
            complain("has a post-processor of the type \"" + printable(type) + "\"");
        std::vector<int>* side = &parts_.in_front;
        for (const json& piece : list(processor, "single")) {
            if (find(piece, "Sequence") != nullptr)
                side = &parts_.behind;
            else if (const json* const special = find(piece, "SpecialToken"))
                add_special(processor, text(*special, "id"), *side);
            else
                complain("has a template with an unknown part");
        }
    }

    void add_special(const json& processor, const std::string& name, std::vector<int>& side) const {
        const json* const all = find(processor, "special_tokens");
        const json* const one = all == nullptr ? nullptr : find(*all, name.c_str());
        if (one == nullptr)
            complain("has a template with an unknown special token");
        for (const json& id : list(*one, "ids"))
            side.push_back(token_number(id));
    }

    const json& root_;
    const std::string& what_;
    bpe_parts parts_;
    std::set<int> special_;
    bool is_byte_level_ = false;
};

} // namespace

std::unique_ptr<tokenizer> parse_tokenizer(std::string_view text, const std::string& what) {
    const json root = parse_json(text, what, deepest_tokenizer);
    return std::make_unique<bpe_tokenizer>(tokenizer_reader{root, what}.read());
}

} // namespace decoder
