// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.hpp"

#include "io/file.hpp"
#include "io/input_error.hpp"
#include "io/json_text.hpp"

#include <nlohmann/json.hpp>

#include <array>

namespace decoder {

namespace {

constexpr std::size_t largest_tokenizer = 256U << 20;
constexpr std::size_t largest_settings = 1U << 20;
constexpr std::size_t deepest_settings = 16;

class byte_tokenizer final : public tokenizer {
  public:
    explicit byte_tokenizer(std::optional<int> in_front) : in_front_{in_front} {
        for (std::size_t byte = 0; byte < bytes_.size(); ++byte)
            bytes_[byte] = static_cast<char>(byte);
    }

    [[nodiscard]] std::vector<int> encode(std::string_view text) const override {
        std::vector<int> tokens;
        tokens.reserve(text.size() + 1);
        if (in_front_)
            tokens.push_back(*in_front_);
        for (const char byte : text)
            tokens.push_back(static_cast<unsigned char>(byte));
        return tokens;
    }

    [[nodiscard]] std::string_view bytes_of_token(int token) const override {
        if (token < 0 || static_cast<std::size_t>(token) >= bytes_.size())
            return {};
        return {bytes_.data() + token, 1};
    }

  private:
    std::optional<int> in_front_;
    std::array<char, 256> bytes_{};
};

/// The token that tokenizer_config.json wants before a prompt of raw bytes, if any.
std::optional<int> token_in_front(const std::filesystem::path& directory, const model_config& config) {
    const auto path = directory / "tokenizer_config.json";
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored))
        return std::nullopt;
    const std::string what = printable(path.string(), 300);
    const auto settings = parse_json(read_text(path, largest_settings), what, deepest_settings);
    const auto wanted = settings.is_object() ? settings.find("add_bos_token") : settings.end();
    return wanted != settings.end() && *wanted == true ? config.bos_token : std::nullopt;
}

} // namespace

std::unique_ptr<tokenizer> make_byte_tokenizer(std::optional<int> in_front) {
    return std::make_unique<byte_tokenizer>(in_front);
}

std::unique_ptr<tokenizer> load_tokenizer(const std::filesystem::path& directory,
                                          const model_config& config) {
    const auto path = directory / "tokenizer.json";
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored))
        return parse_tokenizer(read_text(path, largest_tokenizer), printable(path.string(), 300));
    if (config.vocabulary != 256)
        refuse(printable(directory.string(), 300) +
               " has no tokenizer.json; put the model's own beside config.json");
    return make_byte_tokenizer(token_in_front(directory, config));
}

} // namespace decoder
