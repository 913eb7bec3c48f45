// SPDX-License-Identifier: Apache-2.0
//
// The command line. Turns words into checked values; opens no file but those that
// hold prompts.
#pragma once

#include "app/kv_memory.hpp"
#include "model/evicting_cache.hpp"
#include "model/kv_cache.hpp"
#include "model/sampler.hpp"

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace decoder {

/// Everything the user can say.
struct settings {
    std::filesystem::path model;
    std::string prompt; ///< the text itself, read from its file where it was @FILE; the system prompt first
    std::optional<std::vector<std::string>> batch; ///< in its place: many, each with the system prompt first
    std::size_t samples = 1;                       ///< texts of each prompt of the batch
    std::optional<std::size_t> max_tokens;
    sampling how;
    std::size_t threads = 1;
    std::size_t prefill_chunk = 256;
    memory_kind memory = memory_kind::host;
    kv_options cache; ///< page 0: chosen by the model's sizes
    bool huge_pages = false;
    std::optional<std::filesystem::path> json;
    std::optional<std::string> evict; ///< the method and its settings, checked
    std::optional<double> keep;
    defrag_kind defrag = defrag_kind::compact;
    kv_layout layout = kv_layout::per_head;
};

/// The settings, or a text to show instead (--help, --version). Refuses what it does not understand with
/// `input_error`.
struct command_line {
    settings chosen;
    std::optional<std::string> answer;
};
[[nodiscard]] command_line parse_command_line(int count, const char* const* words);

/// "65536", "64KiB", "2MiB", "1GiB" (or K, M, G) as bytes; nothing where it is none of them or beyond 2^60.
[[nodiscard]] std::optional<vtensor::bytes> parse_bytes(const std::string& text);

/// The words for these on the command line.
[[nodiscard]] std::string name_of(memory_kind memory);
[[nodiscard]] std::string name_of(kv_growth growth);
[[nodiscard]] std::string name_of(kv_type type);
[[nodiscard]] std::string name_of(defrag_kind defrag);
[[nodiscard]] std::string name_of(kv_layout layout);

} // namespace decoder
