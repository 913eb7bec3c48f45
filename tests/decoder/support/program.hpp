// SPDX-License-Identifier: Apache-2.0
//
// The program as a user runs it.
#pragma once

#include <support/catch.hpp>

#include "support/spawn.hpp"
#include "support/temporary.hpp"
#include "support/vectors.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

namespace decoder_test {

using words = std::vector<std::string>;

/// A model of 256 tokens without tokenizer.json: its tokens are bytes.
inline std::filesystem::path byte_model() { return vectors() / "untied_llama3"; }

inline finished decode(const words& arguments, const std::string& out = {},
                       const std::string& in = "/dev/null") {
    return spawn(VTENSOR_DECODER_PROGRAM, arguments, out, in);
}

inline words with_model(const std::filesystem::path& model, const words& more) {
    words all{"--model", model.string(), "--prompt", "In the beginning"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

/// The one line, without its end; the test fails where it is none.
inline std::string line_of(const finished& run) {
    CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
    CHECK_THAT(run.err, Catch::Matchers::StartsWith("vtensor-decoder: "));
    return run.err;
}

inline void check_refused(const words& arguments, const std::string& says) {
    const finished run = decode(arguments);
    CAPTURE(arguments, run.err);
    CHECK(run.code == 2);
    CHECK(run.out.empty());
    CHECK_THAT(line_of(run), Catch::Matchers::ContainsSubstring(says));
}

/// A copy of the byte model in a directory of its own, to be damaged.
struct damaged_model {
    damaged_model() {
        for (const char* const name : {"config.json", "model.safetensors"})
            std::filesystem::copy_file(byte_model() / name, directory.path() / name);
    }
    void change_config(const std::string& field, const nlohmann::json& value) const {
        nlohmann::json config = nlohmann::json::parse(content_of(byte_model() / "config.json"));
        config[field] = value;
        directory.write("config.json", config.dump());
    }
    temporary_directory directory;
};

} // namespace decoder_test
