// SPDX-License-Identifier: Apache-2.0
#include <support/catch.hpp>

#include "io/model_config.hpp"
#include "model/rope.hpp"
#include "support/refusal.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <string>
#include <vector>

using namespace decoder;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;
using decoder_test::is_one_line;
using decoder_test::refusal_of;
using nlohmann::json;

namespace {

json sound() {
    return json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32,
        "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5})");
}

json llama3_rope() {
    return json::parse(
        R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64})");
}

json with(json changed, const std::string& field, const json& value) {
    changed[field] = value;
    return changed;
}

model_config parse(const json& config) { return parse_config(config.dump(), "config.json"); }

} // namespace

TEST_CASE("A Llama config gives its sizes, and defaults where the format has them") {
    const auto config = parse(sound());
    CHECK(config.vocabulary == 32);
    CHECK(config.kv_heads == 2);
    CHECK(config.head_dim == 2);
    CHECK(config.rope_theta == 10000);
    CHECK(!config.rope_scaling);
    CHECK(!config.tied_embeddings);
    CHECK(config.eos_tokens.empty());
    auto old = sound();
    old.erase("num_key_value_heads");
    CHECK(parse(old).kv_heads == 4);
    CHECK(parse(with(sound(), "eos_token_id", json::parse("[3, 5]"))).eos_tokens == std::vector<int>{3, 5});
    CHECK(parse(with(sound(), "eos_token_id", 7)).eos_tokens == std::vector<int>{7});
}

TEST_CASE("RoPE parameters are read at the top level and inside rope_parameters") {
    const auto old = with(with(sound(), "rope_theta", 50000.0), "rope_scaling", llama3_rope());
    const auto recent = with(sound(), "rope_parameters", with(llama3_rope(), "rope_theta", 50000.0));
    for (const json& config : {old, recent}) {
        const auto read = parse(config);
        CHECK(read.rope_theta == 50000);
        REQUIRE(read.rope_scaling.has_value());
        CHECK(read.rope_scaling->factor == 8);
        CHECK(read.rope_scaling->original_context == 64);
    }
}

TEST_CASE("Llama 3 keeps short waves, stretches long ones and blends those between") {
    const auto wide = with(sound(), "head_dim", 64);
    const auto plain = rope_frequencies(parse(wide));
    const auto scaled = rope_frequencies(parse(with(wide, "rope_scaling", llama3_rope())));
    std::size_t kept = 0;
    std::size_t blended = 0;
    std::size_t stretched = 0;
    for (std::size_t i = 0; i < plain.size(); ++i) {
        CHECK(plain[i] == Approx(std::pow(10000.0, -static_cast<double>(i) / 32)));
        const double wave = 2 * 3.14159265358979 / static_cast<double>(plain[i]);
        if (wave < 16) {
            CHECK(scaled[i] == plain[i]);
            ++kept;
        } else if (wave > 64) {
            CHECK(scaled[i] == Approx(plain[i] / 8));
            ++stretched;
        } else {
            CHECK(scaled[i] < plain[i]);
            CHECK(scaled[i] > plain[i] / 8);
            ++blended;
        }
    }
    CHECK(kept > 0);
    CHECK(blended > 0);
    CHECK(stretched > 0);
}

TEST_CASE("A config that is not a Llama, or not sound, is refused with one line that names the trouble") {
    struct broken {
        const char* field;
        const char* value;
        const char* says;
    };
    const std::vector<broken> all{
        {"architectures", R"(["MistralForCausalLM"])", "MistralForCausalLM"},
        {"architectures", "[]", "architecture"},
        {"architectures", "5", "architecture"},
        {"architectures", "[5]", "architecture"},
        {"model_type", R"("mistral")", "mistral"},
        {"model_type", "5", "must be a text"},
        {"attention_bias", "true", "attention_bias"},
        {"attention_bias", R"("yes")", "true or false"},
        {"mlp_bias", "true", "mlp_bias"},
        {"hidden_act", R"("gelu")", "gelu"},
        {"quantization_config", "{}", "quantized"},
        {"partial_rotary_factor", "0.5", "part of each head"},
        {"vocab_size", "0", "vocab_size"},
        {"vocab_size", "-1", "vocab_size"},
        {"vocab_size", "1.5", "vocab_size"},
        {"vocab_size", R"("32")", "vocab_size"},
        {"vocab_size", "null", "lacks \"vocab_size\""},
        {"hidden_size", "1099511627776", "hidden_size"},
        {"hidden_size", "18446744073709551615", "hidden_size"},
        {"num_hidden_layers", "1048576", "num_hidden_layers"},
        {"num_attention_heads", "0", "num_attention_heads"},
        {"num_attention_heads", "3", "no multiple"},
        {"num_key_value_heads", "3", "share"},
        {"head_dim", "3", "odd"},
        {"rms_norm_eps", "0", "rms_norm_eps"},
        {"rms_norm_eps", "1e300", "rms_norm_eps"},
        {"rope_theta", "-1.0", "rope_theta"},
        {"rope_scaling", "5", "rope_scaling"},
        {"rope_scaling", R"({"type": "dynamic"})", "dynamic"},
        {"rope_scaling", R"({"rope_type": "yarn"})", "yarn"},
        {"rope_scaling", R"({"rope_type": "llama3"})", "factor"},
        {"rope_parameters", R"({"rope_type": "llama3", "factor": 0})", "factor"},
        {"rope_parameters",
         R"({"rope_type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4,
            "original_max_position_embeddings": 64})",
         "greater"},
        {"eos_token_id", "32", "eos_token_id"},
        {"eos_token_id", "[1, -2]", "eos_token_id"},
        {"bos_token_id", R"("x")", "bos_token_id"},
    };
    for (const broken& each : all) {
        const auto config = with(sound(), each.field, json::parse(each.value));
        const std::string text = refusal_of([&] { (void)parse(config); });
        CAPTURE(each.field, each.value, text);
        CHECK(is_one_line(text));
        CHECK_THAT(text, ContainsSubstring(each.says));
    }
}

TEST_CASE("A config that is no JSON object is refused") {
    for (const std::string text : {"", "[]", "7", "{", "{\"a\":1,\"a\":2}", "{}", "null"})
        CHECK(is_one_line(refusal_of([&] { (void)parse_config(text, "config.json"); })));
    CHECK(is_one_line(refusal_of([&] { (void)parse_config(std::string(100'000, '['), "config.json"); })));
}
