// SPDX-License-Identifier: Apache-2.0
#include "io/model_config.hpp"

#include "io/file.hpp"
#include "io/input_error.hpp"
#include "io/json_text.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace decoder {

namespace {

using nlohmann::json;

constexpr std::size_t largest_config = 1U << 20;
constexpr std::size_t deepest_config = 16;

/// The fields of one JSON object, each with a range; a field that is null counts as absent.
class fields {
  public:
    fields(const json& object, std::string where) : object_{object}, where_{std::move(where)} {
        if (!object.is_object())
            refuse(where_ + " is not a JSON object");
    }

    [[nodiscard]] const json* find(const char* name) const {
        const auto found = object_.find(name);
        return found == object_.end() || found->is_null() ? nullptr : &*found;
    }

    [[nodiscard]] const std::string& where() const noexcept { return where_; }

    [[nodiscard]] std::size_t size(const char* name, std::size_t most,
                                   std::optional<std::size_t> otherwise = {}) const {
        const json* const value = find(name);
        if (value == nullptr && otherwise)
            return *otherwise;
        if (value == nullptr)
            refuse(where_ + " lacks \"" + name + "\"; take the config.json that belongs to the weights");
        if (!value->is_number_unsigned() || value->get<std::size_t>() == 0 ||
            value->get<std::size_t>() > most)
            refuse(where_ + ": \"" + name + "\" must be a whole number from 1 to " + std::to_string(most));
        return value->get<std::size_t>();
    }

    [[nodiscard]] double positive(const char* name, std::optional<double> otherwise = {}) const {
        const json* const value = find(name);
        if (value == nullptr && otherwise)
            return *otherwise;
        if (value == nullptr)
            refuse(where_ + " lacks \"" + name + "\"; take the config.json that belongs to the weights");
        const double number = value->is_number() ? value->get<double>() : -1;
        if (!(number > 0) || !std::isfinite(number) || number > 1e12)
            refuse(where_ + ": \"" + name + "\" must be a positive number");
        return number;
    }

    [[nodiscard]] bool flag(const char* name) const {
        const json* const value = find(name);
        if (value != nullptr && !value->is_boolean())
            refuse(where_ + ": \"" + name + "\" must be true or false");
        return value != nullptr && value->get<bool>();
    }

    [[nodiscard]] std::string text(const char* name, const std::string& otherwise) const {
        const json* const value = find(name);
        if (value != nullptr && !value->is_string())
            refuse(where_ + ": \"" + name + "\" must be a text");
        return value == nullptr ? otherwise : value->get<std::string>();
    }

  private:
    const json& object_;
    std::string where_;
};

void check_architecture(const fields& config) {
    const json* const list = config.find("architectures");
    const bool is_llama = list == nullptr ? config.text("model_type", "") == "llama"
                                          : list->is_array() && std::find(list->begin(), list->end(),
                                                                          "LlamaForCausalLM") != list->end();
    if (!is_llama) {
        const bool has_name =
            list != nullptr && list->is_array() && !list->empty() && list->front().is_string();
        const auto name = has_name ? list->front().get<std::string>() : config.text("model_type", "no name");
        refuse(config.where() + " describes the architecture " + printable(name) +
               "; only LlamaForCausalLM can be run");
    }
    if (config.text("model_type", "llama") != "llama")
        refuse(config.where() + " has the model_type " + printable(config.text("model_type", "")) +
               "; only llama can be run");
}

/// Whatever would change the arithmetic and is not computed here.
void check_features(const fields& config) {
    for (const char* const name : {"attention_bias", "mlp_bias"})
        if (config.flag(name))
            refuse(config.where() + " asks for \"" + name +
                   "\", which this decoder does not compute; "
                   "use a Llama model without it");
    if (config.find("quantization_config") != nullptr)
        refuse(config.where() + " describes quantized weights; use the F32, F16 or BF16 checkpoint");
    if (config.text("hidden_act", "silu") != "silu")
        refuse(config.where() + " asks for the activation " + printable(config.text("hidden_act", "")) +
               "; only silu is computed");
    if (config.find("partial_rotary_factor") != nullptr && config.positive("partial_rotary_factor") != 1.0)
        refuse(config.where() + " rotates only a part of each head, which this decoder does not compute");
}

void read_rope(const fields& rope, model_config& model) {
    const std::string type = rope.text("rope_type", rope.text("type", "default"));
    if (type == "default")
        return;
    if (type != "llama3")
        refuse(rope.where() + " asks for the RoPE scaling " + printable(type) +
               "; only \"default\" and \"llama3\" are computed");
    llama3_scaling scaling;
    scaling.factor = rope.positive("factor");
    scaling.low_frequency_factor = rope.positive("low_freq_factor");
    scaling.high_frequency_factor = rope.positive("high_freq_factor");
    scaling.original_context = rope.positive("original_max_position_embeddings");
    if (scaling.high_frequency_factor <= scaling.low_frequency_factor)
        refuse(rope.where() + ": \"high_freq_factor\" must be greater than \"low_freq_factor\"");
    model.rope_scaling = scaling;
}

void read_positions(const fields& config, model_config& model) {
    model.rope_theta = config.positive("rope_theta", 10000.0);
    for (const char* const name : {"rope_parameters", "rope_scaling"})
        if (const json* const object = config.find(name)) {
            const fields rope{*object, config.where() + ", " + name};
            model.rope_theta = rope.positive("rope_theta", model.rope_theta);
            read_rope(rope, model);
            return;
        }
}

int read_token(const json& value, const std::string& where, const char* name, std::size_t vocabulary) {
    if (!value.is_number_unsigned() || value.get<std::size_t>() >= vocabulary)
        refuse(where + ": \"" + name + "\" is not a token of the vocabulary of " +
               std::to_string(vocabulary));
    return value.get<int>();
}

void read_special_tokens(const fields& config, model_config& model) {
    if (const json* const bos = config.find("bos_token_id"))
        model.bos_token = read_token(*bos, config.where(), "bos_token_id", model.vocabulary);
    const json* const eos = config.find("eos_token_id");
    if (eos != nullptr && eos->is_array())
        for (const json& token : *eos)
            model.eos_tokens.push_back(read_token(token, config.where(), "eos_token_id", model.vocabulary));
    else if (eos != nullptr)
        model.eos_tokens.push_back(read_token(*eos, config.where(), "eos_token_id", model.vocabulary));
}

void check_heads(const fields& config, const model_config& model) {
    if (model.heads % model.kv_heads != 0)
        refuse(config.where() + ": " + std::to_string(model.heads) + " attention heads cannot share " +
               std::to_string(model.kv_heads) + " key-value heads evenly");
    if (model.head_dim % 2 != 0)
        refuse(config.where() + ": the head dimension " + std::to_string(model.head_dim) +
               " is odd; RoPE rotates pairs");
}

} // namespace

model_config parse_config(std::string_view text, const std::string& what) {
    const json root = parse_json(text, what, deepest_config);
    const fields config{root, what};
    check_architecture(config);
    check_features(config);

    model_config model;
    model.vocabulary = config.size("vocab_size", 1U << 24);
    model.hidden = config.size("hidden_size", 1U << 17);
    model.intermediate = config.size("intermediate_size", 1U << 19);
    model.layers = config.size("num_hidden_layers", 1U << 10);
    model.heads = config.size("num_attention_heads", 1U << 12);
    model.kv_heads = config.size("num_key_value_heads", 1U << 12, model.heads);
    if (config.find("head_dim") == nullptr && model.hidden % model.heads != 0)
        refuse(what +
               ": \"hidden_size\" is no multiple of \"num_attention_heads\" and \"head_dim\" is missing");
    model.head_dim = config.size("head_dim", 1U << 12, std::max<std::size_t>(1, model.hidden / model.heads));
    model.context = config.size("max_position_embeddings", 1U << 24, 2048);
    model.norm_epsilon = static_cast<float>(config.positive("rms_norm_eps", 1e-6));
    model.tied_embeddings = config.flag("tie_word_embeddings");
    check_heads(config, model);
    read_positions(config, model);
    read_special_tokens(config, model);
    return model;
}

model_config read_config(const std::filesystem::path& directory) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(directory, ignored))
        refuse(printable(directory.string(), 300) +
               " is not a directory; give the directory of a model with --model");
    const auto path = directory / "config.json";
    return parse_config(read_text(path, largest_config), printable(path.string(), 300));
}

} // namespace decoder
