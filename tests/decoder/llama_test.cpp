// SPDX-License-Identifier: Apache-2.0
#include <support/catch.hpp>

#include "support/run.hpp"
#include "support/vectors.hpp"

#include <vtensor/backends/host.hpp>

#include <cmath>
#include <string>

using namespace decoder;
using decoder_test::loaded;
using decoder_test::read_expected;
using decoder_test::run_greedily;
using decoder_test::vectors;

namespace {

constexpr std::size_t steps = 32;

double largest_difference(const std::vector<float>& left, const std::vector<float>& right) {
    REQUIRE(left.size() == right.size());
    double largest = 0;
    for (std::size_t i = 0; i < left.size(); ++i) {
        const double difference = std::abs(static_cast<double>(left[i]) - static_cast<double>(right[i]));
        largest = std::isnan(difference) ? 1e300 : std::max(largest, difference);
    }
    return largest;
}

} // namespace

TEST_CASE("Logits and greedy tokens agree with Hugging Face transformers") {
    const std::string folder =
        GENERATE("tied", "tied_bf16", "tied_f16", "untied_llama3", "untied_llama3_sharded");
    CAPTURE(folder);
    const auto truth = read_expected(folder);
    loaded model{vectors() / folder};
    vtensor::host_backend backend;
    const auto cache = make_kv_cache(backend, model.model.cache_shape(),
                                     {kv_type::f32, kv_growth::exact, vtensor::bytes{4096}, {}});
    thread_pool threads{2};
    const auto got = run_greedily(model, *cache, truth.prompt, steps, truth.prompt.size(), threads);
    CHECK(largest_difference(got.prompt_logits, truth.prompt_logits) <= 1e-4);
    CHECK(largest_difference(got.step_logits, truth.greedy_logits) <= 1e-4);
    CHECK(got.tokens == std::vector<int>(truth.greedy.begin(), truth.greedy.end()));
    CHECK(cache->verify());
}

TEST_CASE("Growth policy, page size, prefill chunk and thread count do not change a bit of the logits") {
    const std::string folder = GENERATE("tied", "untied_llama3");
    const auto type = GENERATE(kv_type::f32, kv_type::f16, kv_type::bf16);
    const auto truth = read_expected(folder);
    loaded model{vectors() / folder};
    vtensor::host_backend backend;
    const auto run_with = [&](kv_growth growth, std::size_t page, std::size_t chunk,
                              std::size_t thread_count) {
        const auto cache =
            make_kv_cache(backend, model.model.cache_shape(), {type, growth, vtensor::bytes{page}, {}});
        thread_pool threads{thread_count};
        auto run = run_greedily(model, *cache, truth.prompt, steps, chunk, threads);
        CHECK(cache->verify());
        return run;
    };
    const auto reference = run_with(kv_growth::exact, 4096, truth.prompt.size(), 1);
    if (type == kv_type::f32)
        CHECK(reference.tokens == std::vector<int>(truth.greedy.begin(), truth.greedy.end()));
    for (const auto growth :
         {kv_growth::exact, kv_growth::fixed, kv_growth::geometric, kv_growth::look_ahead})
        for (const std::size_t page : {4096U, 12288U, 65536U})
            for (const std::size_t chunk : {1U, 7U, 64U})
                for (const std::size_t thread_count : {1U, 2U, 5U}) {
                    CAPTURE(folder, static_cast<int>(type), static_cast<int>(growth), page, chunk,
                            thread_count);
                    const auto run = run_with(growth, page, chunk, thread_count);
                    CHECK(run.tokens == reference.tokens);
                    CHECK(run.prompt_logits == reference.prompt_logits);
                    CHECK(run.step_logits == reference.step_logits);
                }
}
