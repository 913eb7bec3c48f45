// SPDX-License-Identifier: Apache-2.0
//
// What the decoder does when the memory underneath fails: call 1, 2, 3, … of the backend fails in turn, and
// after each failure length, content and memory of the cache are as before and the next attempt works.
#include <support/catch.hpp>

#include "app/generate.hpp"
#include "io/input_error.hpp"
#include "model/kv_cache_on.hpp"
#include "support/cache_content.hpp"
#include "support/run.hpp"
#include "support/vectors.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/policy/growth.hpp>

#include <memory>
#include <string>
#include <vector>

using namespace decoder;
using decoder_test::content_of_cache;
using decoder_test::loaded;
using decoder_test::read_expected;
using decoder_test::vectors;
using vtensor::errc;
using vtensor::host_backend;
namespace growth = vtensor::growth;
using failing_backend = vtensor::adaptors::failing<host_backend>;

namespace {

constexpr vtensor::bytes page{4096};

/// Everything of a cache that a failure must leave alone.
struct picture {
    std::size_t rows;
    vtensor::bytes mapped;
    vtensor::bytes physical;
    std::vector<std::byte> content;

    friend bool operator==(const picture&, const picture&) = default;
};

picture take_picture(kv_cache& cache, const host_backend& memory, std::size_t layers) {
    return {cache.rows(), cache.figures().mapped, memory.kernel_physical_bytes(),
            content_of_cache(cache, layers)};
}

template <class Growth>
using cache_with = kv_cache_on<vtensor::float16, failing_backend, Growth>;

/// Feeds `chunk` to the cache, failing one backend call after the other until none is left to fail.
template <class Growth>
std::size_t step_through_failures(loaded& model, cache_with<Growth>& cache, host_backend& memory,
                                  failing_backend& backend, std::span<const int> chunk, errc code,
                                  thread_pool& threads) {
    const std::size_t layers = model.config.layers;
    const std::size_t rows = cache.rows();
    std::vector<float> logits(model.config.vocabulary);
    std::size_t failures = 0;
    for (std::size_t k = 1;; ++k) {
        const picture before = take_picture(cache, memory, layers);
        backend.fail_call(k, code);
        const vtensor::status outcome = model.model.try_step(cache, chunk, logits, threads);
        const bool struck = backend.failures() != 0;
        backend.disarm();
        REQUIRE(cache.verify());
        if (outcome) {
            CHECK(cache.rows() == rows + chunk.size());
            if (!struck)
                return failures;
            cache.truncate(rows); // it found another way; the call after it may be the one that hurts
            continue;
        }
        ++failures;
        CHECK(struck);
        CHECK(outcome.code() == code);
        CHECK(take_picture(cache, memory, layers) == before);
    }
}

} // namespace

TEMPLATE_TEST_CASE(
    "A decoder step that a backend call fails leaves the cache as it was, and works when repeated", "",
    growth::exact, growth::fixed<4>, (growth::geometric<3, 2>)) {
    const auto truth = read_expected("untied_llama3");
    loaded model{vectors() / "untied_llama3"};
    const auto code = GENERATE(errc::out_of_memory, errc::native_failure);
    thread_pool threads{2};

    host_backend memory;
    failing_backend backend{memory};
    cache_with<TestType> cache{
        backend, model.model.cache_shape(), {kv_type::f16, kv_growth::exact, page, {}}};
    const std::span<const int> prompt{truth.prompt};
    std::size_t failures = 0;
    // A first chunk, a second that crosses page boundaries, and single tokens up to the next boundary.
    failures += step_through_failures(model, cache, memory, backend, prompt.first(10), code, threads);
    failures += step_through_failures(model, cache, memory, backend, prompt.subspan(10), code, threads);
    for (int i = 0; i < 20; ++i) {
        const int token = truth.greedy[static_cast<std::size_t>(i)];
        failures += step_through_failures(model, cache, memory, backend, std::span{&token, 1}, code, threads);
    }
    if (code == errc::native_failure) // a shortage may be survived by giving up what is not needed
        CHECK(failures >= 3 * 2 * model.config.layers);

    // What was computed in spite of it all is what an undisturbed run computes.
    host_backend quiet;
    const auto undisturbed =
        make_kv_cache(quiet, model.model.cache_shape(), {kv_type::f16, kv_growth::exact, page, {}});
    std::vector<float> logits(model.config.vocabulary);
    std::vector<int> all(prompt.begin(), prompt.end());
    all.insert(all.end(), truth.greedy.begin(), truth.greedy.begin() + 20);
    vtensor::throw_if_failed(model.model.try_step(*undisturbed, all, logits, threads));
    CHECK(take_picture(cache, memory, model.config.layers).content ==
          take_picture(*undisturbed, quiet, model.config.layers).content);
}

TEST_CASE("Failures while a mapper thread maps ahead change neither rows nor content") {
    const auto truth = read_expected("untied_llama3");
    loaded model{vectors() / "untied_llama3"};
    thread_pool threads{1};
    host_backend memory;
    failing_backend backend{memory};
    cache_with<growth::look_ahead<2>> cache{
        backend, model.model.cache_shape(), {kv_type::f16, kv_growth::look_ahead, page, {}}};
    std::vector<float> logits(model.config.vocabulary);
    std::size_t failures = 0;
    for (const int token : truth.prompt) {
        for (std::size_t k = 1; k < 200; ++k) {
            picture before = take_picture(cache, memory, model.config.layers);
            backend.fail_call(k, errc::native_failure);
            const vtensor::status outcome =
                model.model.try_step(cache, std::span{&token, 1}, logits, threads);
            picture after = take_picture(cache, memory, model.config.layers); // waits for the mapper
            backend.disarm();
            REQUIRE(cache.verify());
            if (outcome)
                break;
            ++failures;
            CHECK(after.rows == before.rows);
            CHECK(after.content == before.content);
        }
    }
    CHECK(cache.rows() == truth.prompt.size());
    CHECK(failures > 0);
}

TEST_CASE("Generating without memory ends with one line that says how far it came") {
    const auto truth = read_expected("untied_llama3");
    loaded model{vectors() / "untied_llama3"};
    const generation_request request{truth.prompt, 60, 32, {}};
    thread_pool threads{1};
    std::size_t in_prompt = 0;
    std::size_t in_text = 0;
    for (std::size_t k = 1;; ++k) {
        host_backend memory;
        failing_backend backend{memory};
        cache_with<growth::exact> cache{
            backend, model.model.cache_shape(), {kv_type::f16, kv_growth::exact, page, {}}};
        backend.fail_from(k, errc::out_of_memory, {vtensor::verb::create, vtensor::verb::map});
        std::vector<int> shown;
        std::string said;
        try {
            const auto result =
                generate(model.model, cache, request, threads, [&](int token) { shown.push_back(token); });
            CHECK(result.tokens == shown);
            CHECK(shown.size() == 60);
            break;
        } catch (const input_error& refused) {
            said = refused.what();
        }
        CAPTURE(k, said);
        CHECK(said.find('\n') == std::string::npos);
        CHECK_THAT(said, Catch::Matchers::ContainsSubstring("out_of_memory"));
        CHECK_THAT(said, Catch::Matchers::ContainsSubstring("--kv-limit"));
        CHECK(said.find(shown.empty()
                            ? "tokens of the prompt"
                            : "after " + std::to_string(shown.size()) + " generated") != std::string::npos);
        CHECK(cache.verify());
        ++(shown.empty() ? in_prompt : in_text);
    }
    CHECK(in_prompt > 0);
    CHECK(in_text > 0);
}

TEST_CASE("Forgetting tokens cannot fail, whatever the backend refuses to unmap") {
    const auto truth = read_expected("untied_llama3");
    loaded model{vectors() / "untied_llama3"};
    const std::size_t layers = model.config.layers;
    const std::span<const int> prompt{truth.prompt};
    thread_pool threads{1};
    host_backend memory;
    failing_backend backend{memory};
    cache_with<growth::exact> cache{
        backend, model.model.cache_shape(), {kv_type::f16, kv_growth::exact, page, {}}};
    std::vector<float> logits(model.config.vocabulary);
    vtensor::throw_if_failed(model.model.try_step(cache, prompt.first(20), logits, threads));
    const picture kept = take_picture(cache, memory, layers);
    vtensor::throw_if_failed(model.model.try_step(cache, prompt.subspan(20), logits, threads));
    const picture whole = take_picture(cache, memory, layers);
    REQUIRE(kept.mapped < whole.mapped);
    for (std::size_t k = 1; k <= 2 * layers + 1; ++k) {
        backend.fail_from(k, errc::native_failure);
        cache.truncate(20);
        CHECK((backend.failures() != 0) == (k <= 2 * layers));
        backend.disarm();
        CHECK(cache.rows() == 20);
        CHECK(cache.verify());
        CHECK(take_picture(cache, memory, layers).content == kept.content);
        vtensor::throw_if_failed(model.model.try_step(cache, prompt.subspan(20), logits, threads));
        CHECK(take_picture(cache, memory, layers) == whole);
    }
}

TEST_CASE("A cache whose making fails leaves nothing behind") {
    const kv_shape shape{3, 2, 16, 64};
    host_backend memory;
    failing_backend backend{memory};
    std::size_t failures = 0;
    for (std::size_t k = 1;; ++k) {
        backend.fail_call(k, errc::out_of_addresses);
        try {
            const cache_with<growth::exact> cache{backend, shape, {kv_type::f16, kv_growth::exact, page, {}}};
            CHECK(memory.reserved_bytes() == vtensor::bytes{6 * 4096});
            if (backend.failures() == 0)
                break;
        } catch (const vtensor::failure& refused) {
            CHECK(refused.error().code == errc::out_of_addresses);
            ++failures;
        }
        CHECK(memory.mapped_bytes() == vtensor::bytes{});
        CHECK(memory.kernel_physical_bytes() == vtensor::bytes{});
    }
    CHECK(failures == 6);
}

TEST_CASE("A cache at its limit gives up what growth policies hold in reserve before it refuses") {
    const kv_shape shape{2, 1, 16, 4096};
    const auto how =
        GENERATE(kv_growth::exact, kv_growth::fixed, kv_growth::geometric, kv_growth::look_ahead);
    CAPTURE(static_cast<int>(how));
    host_backend memory;
    // Rows of 32 bytes: 128 a page. Ten pages a tensor are needed for 1,280 rows, and not one page more is
    // allowed.
    const auto limit = memory_for(shape, kv_type::f16, page, 1280);
    CHECK(limit == vtensor::bytes{4 * 10 * 4096});
    const auto cache = make_kv_cache(memory, shape, {kv_type::f16, how, page, limit});
    for (std::size_t rows = 1; rows <= 1280; ++rows)
        REQUIRE(cache->try_grow(rows).ok());
    CHECK(cache->figures().mapped == limit);
    CHECK(memory.kernel_physical_bytes() == limit);
    const auto refused = cache->try_grow(1281);
    CHECK(refused.code() == errc::limit_exceeded);
    CHECK(cache->rows() == 1280);
    CHECK(cache->figures().mapped == limit);
    CHECK(cache->verify());
    cache->truncate(640);
    CHECK(cache->try_grow(1280).ok());
    CHECK(cache->verify());
}

TEST_CASE("The library's mapped bytes are the kernel's after every step, for every growth policy") {
    const auto how =
        GENERATE(kv_growth::exact, kv_growth::fixed, kv_growth::geometric, kv_growth::look_ahead);
    const kv_shape shape{2, 2, 24, 3000};
    host_backend memory;
    const auto cache = make_kv_cache(memory, shape, {kv_type::f32, how, vtensor::bytes{8192}, {}});
    for (const std::size_t rows : {1U, 2U, 43U, 44U, 500U, 501U, 2999U, 3000U}) {
        REQUIRE(cache->try_grow(rows).ok());
        const auto figures = cache->figures();
        CAPTURE(static_cast<int>(how), rows);
        CHECK(figures.mapped == memory.kernel_physical_bytes());
        CHECK(figures.mapped >= memory_for(shape, kv_type::f32, vtensor::bytes{8192}, rows));
        CHECK(figures.reserved == memory.reserved_bytes());
    }
}
