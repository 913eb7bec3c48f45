// SPDX-License-Identifier: Apache-2.0
//
// A batch inside a limit: what the manager's books say when all sequences are over, and what the kernel says.
#include <support/catch.hpp>

#include "app/generate_batch.hpp"
#include "support/run.hpp"
#include "support/vectors.hpp"

#include <vtensor/backends/host.hpp>

#include <cstddef>

using namespace decoder;
using decoder_test::loaded;
using decoder_test::vectors;

namespace {

/// Prompts of 40, 47, 54, … tokens that begin alike.
batch_request make_request(std::size_t prompts, std::size_t samples) {
    batch_request request{.prompts = {}, .samples = samples, .prefill_chunk = 16, .how = {.temperature = 1}};
    for (std::size_t index = 0; index < prompts; ++index) {
        batch_prompt prompt{.tokens = {}, .max_tokens = 50};
        for (std::size_t token = 0; token < 40 + 7 * index; ++token)
            prompt.tokens.push_back(static_cast<int>('a' + (token < 30 ? token : token * (index + 3)) % 26));
        request.prompts.push_back(prompt);
    }
    return request;
}

} // namespace

TEST_CASE("After a batch in little memory the manager's books are sound and no sequence is left") {
    loaded with{vectors() / "untied_llama3"};
    const auto shape = with.model.cache_shape();
    const auto growth = GENERATE(kv_growth::exact, kv_growth::look_ahead);
    const auto type = GENERATE(kv_type::f32, kv_type::f16, kv_type::bf16);
    vtensor::host_backend backend;
    thread_pool threads{1};
    const batch_request request = make_request(6, 3);
    constexpr vtensor::bytes page{4096};
    const vtensor::bytes limit = memory_for(shape, type, page, request.prompts.back().tokens.size() + 49);

    std::vector<completion> reference;
    for (const bool is_scarce : {false, true}) {
        const auto sequences = make_managed_sequences(
            backend, shape, {type, growth, page, is_scarce ? limit : vtensor::bytes{0}});
        const auto done = generate_batch(with.model, *sequences, request, threads);
        REQUIRE(done.completions.size() == 18);
        CHECK(sequences->verify());
        const auto now = sequences->stats();
        CHECK(now.running == 0);
        CHECK(now.preempted == 0);
        CHECK(now.tokens == 0);
        CHECK(now.mapped == now.lazily_held);
        if (is_scarce) {
            CHECK(now.preemptions > 0);
            CHECK(done.figures.busiest.kernel.value() <= limit);
            for (std::size_t index = 0; index < reference.size(); ++index)
                CHECK(done.completions[index].tokens == reference[index].tokens);
        } else {
            CHECK(now.preemptions == 0);
            reference = done.completions;
        }
    }
    CHECK(backend.kernel_physical_bytes() == vtensor::bytes{0});
}
