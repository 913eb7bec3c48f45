// SPDX-License-Identifier: Apache-2.0
// oracle_check itself: it finds every number and every row that is changed, and refuses what is no file of
// vectors.
#include "check_file.hpp"

#include <support/catch.hpp>
#include <support/temporary_folder.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
using vtensor::testing::temporary_folder;

/// A file taken apart.
struct vectors {
    nlohmann::json header;
    std::vector<char> data;

    explicit vectors(const std::string& name) {
        std::ifstream file{VTENSOR_ORACLE_VECTORS "/" + name, std::ios::binary};
        REQUIRE(file);
        const std::vector<char> all{std::istreambuf_iterator<char>{file}, {}};
        std::uint64_t length = 0;
        std::memcpy(&length, all.data(), sizeof length);
        header = nlohmann::json::parse(all.data() + sizeof length, all.data() + sizeof length + length);
        data.assign(all.begin() + static_cast<std::ptrdiff_t>(sizeof length + length), all.end());
    }
    /// The bytes of a tensor's element.
    template <class V>
    V& at(const std::string& tensor, std::size_t element) {
        const std::size_t begin = header.at(tensor).at("data_offsets").at(0);
        return reinterpret_cast<V&>(data.at(begin + element * sizeof(V)));
    }
    [[nodiscard]] std::vector<char> bytes() const {
        const std::string text = header.dump();
        const std::uint64_t length = text.size();
        std::vector<char> all(sizeof length);
        std::memcpy(all.data(), &length, sizeof length);
        all.insert(all.end(), text.begin(), text.end());
        all.insert(all.end(), data.begin(), data.end());
        return all;
    }
};

struct verdict {
    bool agrees;
    std::string text;
};

verdict check(const std::vector<char>& bytes) {
    const temporary_folder folder;
    const std::string path = folder.file("vectors.safetensors");
    std::ofstream{path, std::ios::binary}.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    std::ostringstream out;
    const bool agrees = oracle::check_file(path, out);
    return {agrees, out.str()};
}

verdict check_changed(const char* name, const std::function<void(vectors&)>& change) {
    vectors file{name};
    change(file);
    return check(file.bytes());
}

} // namespace

TEST_CASE("a changed number or row is found and named", "[oracle]") {
    REQUIRE(check(vectors{"mha-s1.safetensors"}.bytes()).agrees);
    const verdict nearly = check_changed("mha-s1.safetensors", [](vectors& file) {
        file.at<float>("snapkv.scores.1", 2 * 97 + 7) *= 1.0f + 1.5e-5f; // head 2 of those with 97 scores
    });
    CHECK_THAT(nearly.text, ContainsSubstring("snapkv: layer 1, head 2: score 7 is") &&
                                ContainsSubstring("(relative difference 1.5e-05)"));
    for (const char* tensor : {"snapkv.scores.1", "tova.scores.0", "knorm.scores.1", "keydiff.scores.0",
                               "observed.scores.1", "defensive.scores.0", "attention.out.1"}) {
        const verdict found =
            check_changed("mha-s1.safetensors", [&](vectors& file) { file.at<float>(tensor, 97) *= 1.01f; });
        INFO(tensor);
        CHECK_FALSE(found.agrees);
        CHECK_THAT(found.text, ContainsSubstring("DIFFERS") && ContainsSubstring("relative difference"));
    }
    for (const char* tensor : {"adakv.kept_mask.1", "defensive.kept_mask.0", "layer_defensive.kept_mask"}) {
        const verdict found = check_changed("mha-s1.safetensors", [&](vectors& file) {
            auto& flag = file.at<std::int32_t>(tensor, 97 + 90); // in the window
            REQUIRE(flag == 1);
            flag = 0;
        });
        INFO(tensor);
        CHECK_FALSE(found.agrees);
        CHECK_THAT(found.text, ContainsSubstring("row 90 is kept, expected to go"));
    }
    for (const char* tensor : {"snapkv.kept.0", "tova.kept.1", "criticalkv.kept.1", "windowkv.average.kept",
                               "windowkv.max.kept"}) {
        const verdict found = check_changed("mha-s1.safetensors", [&](vectors& file) {
            file.at<std::int64_t>(tensor, 0) = file.at<std::int64_t>(tensor, 1);
        });
        INFO(tensor);
        CHECK_FALSE(found.agrees);
        CHECK_THAT(found.text, ContainsSubstring("is kept, expected to go"));
    }
    CHECK_FALSE(check_changed("mha-s1.safetensors", [](vectors& file) {
                    ++file.at<std::int64_t>("layer_defensive.layer_budget", 1);
                }).agrees);
    CHECK_FALSE(check_changed("mha-s1.safetensors", [](vectors& file) {
                    file.header["__metadata__"]["pyramid.budget.0"] = "80";
                }).agrees);
    CHECK_FALSE(check_changed("mha-s1.safetensors", [](vectors& file) {
                    file.header["__metadata__"]["removed"] = "0.51";
                }).agrees);
}

TEST_CASE("a changed counter, importance or kept row of the lazy method is found", "[oracle]") {
    REQUIRE(check(vectors{"lazy-s1.safetensors"}.bytes()).agrees);
    const auto differs = [](const std::function<void(vectors&)>& change, const std::string& text) {
        const verdict found = check_changed("lazy-s1.safetensors", change);
        CHECK_FALSE(found.agrees);
        CHECK_THAT(found.text, ContainsSubstring(text));
    };
    differs([](vectors& file) { ++file.at<std::int64_t>("eviction.2.last_hit", 60); },
            "lazy.counters: layer 2, head 1: position");
    differs([](vectors& file) { ++file.at<std::int64_t>("eviction.5.max_interval", 0); },
            "lazy.counters: layer 5, head 0: position");
    differs([](vectors& file) { file.at<float>("eviction.3.importance", 110) *= 1.0f + 3e-6f; },
            "lazy.importance: layer 3, head 2: score 6 is");
    differs([](vectors& file) { file.at<std::int64_t>("eviction.0.kept_positions", 39) = 2000; },
            "position 2000 was not live");
    differs(
        [](vectors& file) {
            file.at<std::int64_t>("eviction.0.kept_positions", 0) = // the least important of head 0
                file.at<std::int64_t>("eviction.0.live_positions", 16);
        },
        "lazy.kept: layer 0, head 0: the file keeps");
    differs([](vectors& file) { file.at<std::int64_t>("eviction.steps", 1) = 37; },
            "step 36: evicts, expected not to");
    differs([](vectors& file) { file.header["__metadata__"]["alpha"] = "0.006"; }, "expected");
}

TEST_CASE("a file that is cut off anywhere is refused", "[oracle]") {
    const std::vector<char> whole = vectors{"lazy-s1.safetensors"}.bytes();
    for (std::size_t length : {std::size_t{0}, std::size_t{7}, std::size_t{8}, std::size_t{100},
                               whole.size() / 2, whole.size() - 1}) {
        const verdict found = check({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)});
        INFO(length << ": " << found.text);
        CHECK_FALSE(found.agrees);
        CHECK_THAT(found.text, ContainsSubstring("refused, it "));
    }
}

TEST_CASE("missing tensors and parameters, other types and other shapes are refused", "[oracle]") {
    const vectors original{"mha-s1.safetensors"};
    for (const auto& item : original.header.items()) {
        const std::string name = item.key();
        if (name == "__metadata__")
            continue;
        const auto refused = [&](const std::function<void(nlohmann::json&)>& change) {
            const verdict found =
                check_changed("mha-s1.safetensors", [&](vectors& file) { change(file.header); });
            INFO(name << ": " << found.text);
            CHECK_FALSE(found.agrees);
            CHECK_THAT(found.text, ContainsSubstring("refused, it ") && ContainsSubstring(name));
        };
        refused([&](nlohmann::json& header) { header.erase(name); });
        refused([&](nlohmann::json& header) { header[name]["dtype"] = "F64"; });
        refused([&](nlohmann::json& header) {
            auto& extent = header[name]["shape"].back();
            extent = extent.get<std::size_t>() + 1;
        });
        refused([&](nlohmann::json& header) { header[name]["shape"].push_back(1); });
        refused([&](nlohmann::json& header) { header[name]["data_offsets"][1] = 1'000'000'000; });
    }
    for (const char* key : {"L", "Hq", "Hkv", "T", "W", "d", "hidden", "removed", "kernel",
                            "pyramid.budget.1", "windowkv.max.budgets", "windowkv.average.suffix"})
        for (const char* value : {"", "-1", "many", "99999999999999999999"}) {
            const verdict found = check_changed(
                "mha-s1.safetensors", [&](vectors& file) { file.header["__metadata__"][key] = value; });
            INFO(key << " = " << value << ": " << found.text);
            CHECK_FALSE(found.agrees);
            CHECK_THAT(found.text, ContainsSubstring("refused, it "));
        }
    CHECK_THAT(
        check_changed("mha-s1.safetensors", [](vectors& file) { file.header["__metadata__"]["Hkv"] = "3"; })
            .text,
        ContainsSubstring("do not fit together"));
}
