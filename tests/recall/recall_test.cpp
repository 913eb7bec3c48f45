// SPDX-License-Identifier: Apache-2.0
//
// What bench_eviction_quality runs: its model over ragged caches against PyTorch (expected.safetensors, from
// make_vectors.py), and the task that it asks.
#include <support/catch.hpp>

#include "ragged_llama.hpp"
#include "recall_task.hpp"

#include "io/safetensors.hpp"

#include <cmath>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

using namespace vtensor;
using namespace vtensor::bench;

namespace {

const std::filesystem::path model_folder = VTENSOR_RECALL_MODEL;
constexpr std::size_t prompt_tokens = 224;

template <class T>
std::vector<T> read_expected(const std::string& name) {
    static const decoder::safetensors_file file{VTENSOR_RECALL_VECTORS "/expected.safetensors"};
    const decoder::weight* const tensor = file.find(name);
    if (tensor == nullptr)
        throw std::runtime_error{"the vectors lack " + name};
    std::size_t elements = 1;
    for (const std::size_t extent : tensor->shape)
        elements *= extent;
    std::vector<T> values(elements);
    std::memcpy(values.data(), tensor->data, elements * sizeof(T));
    return values;
}

struct loaded_model {
    decoder::checkpoint weights{model_folder};
    ragged_llama model{decoder::read_config(model_folder), weights};
};

float largest_difference(std::span<const float> a, std::span<const float> b) {
    REQUIRE(a.size() == b.size());
    float largest = 0;
    for (std::size_t index = 0; index < a.size(); ++index)
        largest = std::max(largest, std::abs(a[index] - b[index]));
    return largest;
}

} // namespace

TEST_CASE(
    "The model of the bench computes what PyTorch does, before and after rows are evicted head by head") {
    loaded_model loaded;
    ragged_llama& model = loaded.model;
    const auto tokens = read_expected<int>("tokens");
    const auto mask = read_expected<std::uint8_t>("kept");
    const std::span prompt = std::span{tokens}.first(prompt_tokens);
    const std::span more = std::span{tokens}.subspan(prompt_tokens);

    ragged_cache cache = model.empty_cache();
    prompt_evidence evidence;
    model.step(cache, prompt, 0, &evidence);

    eviction::kept_rows kept;
    const std::size_t heads = model.config().kv_heads;
    REQUIRE(kept.reset(cache.layers(), heads));
    for (std::size_t head = 0; head < cache.layers() * heads; ++head) {
        std::vector<slot_type> slots;
        for (std::size_t row = 0; row < prompt_tokens; ++row)
            if (mask[head * prompt_tokens + row] != 0)
                slots.push_back(static_cast<slot_type>(row));
        REQUIRE(kept.add(slots));
    }
    ragged_cache evicted = model.empty_cache();
    evicted.take(cache, kept);
    CHECK(evicted.layer(0)[0].positions.size() < evicted.layer(0)[1].positions.size());

    const auto whole = read_expected<float>("whole");
    const auto ragged = read_expected<float>("evicted");
    CHECK(largest_difference(model.step(cache, more, prompt_tokens), whole) < 1e-3F);
    CHECK(largest_difference(model.step(evicted, more, prompt_tokens), ragged) < 1e-3F);
    CHECK(largest_difference(whole, ragged) > 0.1F);
}

TEST_CASE("The evidence of the bench is what PyTorch's attention shows") {
    loaded_model loaded;
    ragged_llama& model = loaded.model;
    const auto tokens = read_expected<int>("tokens");
    const auto window = read_expected<float>("window");
    ragged_cache cache = model.empty_cache();
    prompt_evidence evidence;
    model.step(cache, std::span{tokens}.first(prompt_tokens), 0, &evidence);

    constexpr std::size_t queries = 4;
    const auto layers = evidence.layers();
    const std::size_t heads = model.config().heads;
    const auto expected = make_view(window.data(), layers.size(), heads, queries, prompt_tokens);
    float largest = 0;
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
        const auto& shown = layers[layer].probabilities;
        REQUIRE(shown.extents[0] == heads);
        REQUIRE(shown.extents[1] == ragged_llama::window);
        REQUIRE(shown.extents[2] == prompt_tokens);
        for (std::size_t head = 0; head < heads; ++head) {
            double mass = 0;
            for (std::size_t row = 0; row < prompt_tokens; ++row) {
                for (std::size_t query = 0; query < queries; ++query)
                    largest =
                        std::max(largest, std::abs(shown(head, ragged_llama::window - queries + query, row) -
                                                   expected(layer, head, query, row)));
                mass += static_cast<double>(layers[layer].accumulated(head, row));
            }
            CHECK(mass == Approx(prompt_tokens).epsilon(1e-4));
        }
    }
    CHECK(largest < 1e-4F);
}

TEST_CASE("A sequence of the task can be answered from its body, and half of its keys are unseen") {
    recall_task task{7};
    for (int repeat = 0; repeat < 20; ++repeat) {
        const recall_sequence made = task.next();
        REQUIRE(made.prompt.size() == recall::body + recall::window);
        std::map<int, int> value_of;
        std::map<int, int> markers;
        for (std::size_t index = 0; index < recall::body; ++index) {
            const int token = made.prompt[index];
            if (token >= recall::first_key && token < recall::first_value)
                value_of[token] = made.prompt[index + 1];
            if (token >= recall::first_marker && token < recall::aggregate)
                ++markers[token];
        }
        const std::vector<int> window(made.prompt.begin() + recall::body, made.prompt.end());
        CHECK(value_of.size() == recall::pairs);
        CHECK(std::count(window.begin(), window.end(), recall::aggregate) == recall::asked_aggregates);
        REQUIRE(made.questions.size() == recall::pairs + 1);
        std::size_t unseen = 0;
        for (const recall_question& question : made.questions) {
            CHECK(question.asked_before == (std::ranges::find(window, question.token) != window.end()));
            unseen += question.asked_before ? 0 : 1;
            if (question.token != recall::aggregate) {
                CHECK(value_of.at(question.token) == question.answer);
                continue;
            }
            for (const auto& [marker, count] : markers)
                CHECK((marker == question.answer || count < markers.at(question.answer)));
        }
        CHECK(unseen == recall::pairs - recall::asked_keys);
    }
}
