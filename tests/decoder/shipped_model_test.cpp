// SPDX-License-Identifier: Apache-2.0
//
// The model that comes with the example, as a user runs it: float16 cache, long prompts, every way to grow.
#include <support/catch.hpp>

#include "support/run.hpp"
#include "text/tokenizer.hpp"

#include <vtensor/backends/host.hpp>

#include <string>
#include <vector>

using namespace decoder;
using decoder_test::loaded;
using decoder_test::run_greedily;

namespace {

const std::filesystem::path folder = VTENSOR_DECODER_MODEL;

const std::string opening =
    "1 In the beginning God created the heaven and the earth.\n"
    "2 And the earth was without form, and void; and darkness was upon the face of the deep. "
    "And the Spirit of God moved upon the face of the waters.\n3 And God said, ";

} // namespace

TEST_CASE("The shipped model is what its description promises") {
    const loaded model{folder};
    CHECK(model.config.vocabulary == 256);
    CHECK(model.config.kv_heads < model.config.heads);
    CHECK(model.config.context >= 1024);
    CHECK(model.weights.weight_bytes() <= 10'000'000);
    CHECK(model.weights.weight_bytes() / 2 >= 1'000'000);
    CHECK(model.weights.weight_bytes() / 2 <= 4'000'000);
}

TEST_CASE("The shipped model writes the same text whatever the growth policy, page size, chunk and threads") {
    loaded model{folder};
    const auto prompt = load_tokenizer(folder, model.config)->encode(opening);
    vtensor::host_backend backend;
    const auto tokens_with = [&](kv_growth growth, std::size_t page, std::size_t chunk,
                                 std::size_t thread_count) {
        const auto cache = make_kv_cache(backend, model.model.cache_shape(),
                                         {kv_type::f16, growth, vtensor::bytes{page}, {}});
        thread_pool threads{thread_count};
        return run_greedily(model, *cache, prompt, 64, chunk, threads).tokens;
    };
    const auto reference = tokens_with(kv_growth::exact, 4096, prompt.size(), 1);
    for (const auto growth :
         {kv_growth::exact, kv_growth::fixed, kv_growth::geometric, kv_growth::look_ahead}) {
        CAPTURE(static_cast<int>(growth));
        CHECK(tokens_with(growth, 4096, 1, 2) == reference);
        CHECK(tokens_with(growth, 8192, 50, 1) == reference);
        CHECK(tokens_with(growth, 65536, 1000, 3) == reference);
    }
}

TEST_CASE("The shipped model writes letters, spaces and marks, not noise") {
    loaded model{folder};
    const auto prompt = load_tokenizer(folder, model.config)->encode(opening);
    vtensor::host_backend backend;
    const auto cache = make_kv_cache(backend, model.model.cache_shape(), {});
    thread_pool threads{2};
    std::size_t spaces = 0;
    for (const int token : run_greedily(model, *cache, prompt, 200, 256, threads).tokens) {
        CHECK((token == '\n' || (token >= ' ' && token <= '~')));
        spaces += token == ' ' ? 1U : 0U;
    }
    CHECK(spaces > 20);
    CHECK(spaces < 80);
}
