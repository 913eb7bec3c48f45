// SPDX-License-Identifier: Apache-2.0
//
// What config.json says about a model. Only the Llama architecture is read; whatever would change the
// arithmetic and is not implemented here is refused by name rather than ignored.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace decoder {

/// The frequency scaling of Llama 3.1 and later (`rope_type` "llama3").
struct llama3_scaling {
    double factor = 1;
    double low_frequency_factor = 1;
    double high_frequency_factor = 4;
    double original_context = 8192;
};

/// Sizes and constants of a Llama model. After `parse_config` all of them are positive and fit together.
struct model_config {
    std::size_t vocabulary = 0;
    std::size_t hidden = 0;
    std::size_t intermediate = 0;
    std::size_t layers = 0;
    std::size_t heads = 0;
    std::size_t kv_heads = 0;
    std::size_t head_dim = 0;
    std::size_t context = 0; ///< positions the model was made for
    float norm_epsilon = 1e-6F;
    double rope_theta = 10000;
    std::optional<llama3_scaling> rope_scaling;
    bool tied_embeddings = false;
    std::optional<int> bos_token;
    std::vector<int> eos_tokens; ///< generation ends with any of them
};

/// Reads the text of a config.json; `what` names it in messages. Accepts the RoPE parameters at the top level
/// and inside `rope_parameters` (transformers 5).
[[nodiscard]] model_config parse_config(std::string_view text, const std::string& what);

/// Reads `config.json` of a model directory.
[[nodiscard]] model_config read_config(const std::filesystem::path& directory);

} // namespace decoder
