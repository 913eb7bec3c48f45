// SPDX-License-Identifier: Apache-2.0
//
// What the decoder does when a device's driver fails: call 1, 2, 3, … of the driver fails in turn, through
// steps, through the making of a cache and through its end. The simulated driver counts what is left behind.
#include <support/catch.hpp>
#include <support/fault_loop.hpp>

#include "app/generate.hpp"
#include "io/input_error.hpp"
#include "model/kv_cache.hpp"
#include "model/thread_pool.hpp"
#include "support/cache_content.hpp"
#include "support/run.hpp"
#include "support/simulated_device.hpp"
#include "support/vectors.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/core/exception.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

using namespace decoder;
using decoder_test::content_of_cache;
using decoder_test::loaded;
using decoder_test::read_expected;
using decoder_test::simulated_device;
using decoder_test::vectors;
using vtensor::testing::fault_length;
using vtensor::testing::for_each_failing_call;
using vtensor::testing::simulated::driver_faults;
using vtensor::testing::simulated::entry;
namespace code = vtensor::testing::simulated::code;

namespace {

constexpr std::size_t page = 4096; // so that a small model crosses pages

/// Everything of a cache that a failure must leave alone. The physical bytes are the simulated driver's.
struct picture {
    std::size_t rows;
    vtensor::bytes mapped;
    std::size_t physical;
    std::vector<std::byte> content;

    friend bool operator==(const picture&, const picture&) = default;
};

picture take_picture(kv_cache& cache, simulated_device& device, std::size_t layers) {
    const auto mapped = cache.figures().mapped; // and unmaps what retires: first
    return {cache.rows(), mapped, device.machine.physical_bytes(), content_of_cache(cache, layers)};
}

/// Feeds the prompt and some tokens, failing one driver call of each step after the other. How many failed
/// steps there were.
std::size_t run_through_failures(loaded& model, kv_cache& cache, simulated_device& device,
                                 std::span<const int> tokens, std::size_t prompt, int native,
                                 fault_length length) {
    const std::size_t layers = model.config.layers;
    thread_pool threads{2};
    std::vector<float> logits(model.config.vocabulary);
    driver_faults faults{device.machine, native};
    std::size_t failed = 0;
    while (cache.rows() < tokens.size()) {
        const std::size_t rows = cache.rows();
        const auto chunk = tokens.subspan(rows, rows < prompt ? std::min<std::size_t>(20, prompt - rows) : 1);
        const picture before = take_picture(cache, device, layers);
        for_each_failing_call(
            faults, [&] { return model.model.try_step(cache, chunk, logits, threads).ok(); },
            [&](std::size_t) {
                ++failed;
                CHECK(cache.verify());
                const picture after = take_picture(cache, device, layers);
                if (length == fault_length::one) {
                    CHECK(after == before);
                } else { // where the undo fails as well, memory may stay, rows and content may not change
                    CHECK(after.rows == before.rows);
                    CHECK(after.content == before.content);
                }
            },
            [&] { // it found another way
                CHECK(cache.rows() == rows + chunk.size());
                cache.undo_growth();
                CHECK(cache.verify());
                CHECK(take_picture(cache, device, layers) == before);
            },
            vtensor::errc::native_failure, length);
        CHECK(cache.rows() == rows + chunk.size());
    }
    return failed;
}

/// The prompt and some of the tokens that follow it.
std::vector<int> tokens_of(const decoder_test::expected& truth, std::size_t more) {
    std::vector<int> all(truth.prompt.begin(), truth.prompt.end());
    all.insert(all.end(), truth.greedy.begin(), truth.greedy.begin() + static_cast<std::ptrdiff_t>(more));
    return all;
}

} // namespace

TEST_CASE("A step that a driver call fails leaves the cache as it was, and works when repeated") {
    const auto growth = GENERATE(kv_growth::exact, kv_growth::fixed, kv_growth::geometric);
    const int native = GENERATE(code::out_of_memory, code::unknown);
    const auto length = GENERATE(fault_length::one, fault_length::with_undo);
    CAPTURE(static_cast<int>(growth), native, static_cast<int>(length));
    const auto truth = read_expected("untied_llama3");
    const auto tokens = tokens_of(truth, 8);
    loaded model{vectors() / "untied_llama3"};
    const std::size_t layers = model.config.layers;

    simulated_device device{page};
    const kv_options options{kv_type::f16, growth, {}, {}};
    const auto cache = make_kv_cache(device.memory, model.model.cache_shape(), options);
    const std::size_t failed =
        run_through_failures(model, *cache, device, tokens, truth.prompt.size(), native, length);
    // Four copies, a record and a wait a layer cannot be done without, in each of the steps.
    CHECK(failed >= 6 * layers * (1 + 8));

    // What was computed in spite of it all is what an undisturbed run computes.
    vtensor::host_backend quiet;
    thread_pool threads{2};
    std::vector<float> logits(model.config.vocabulary);
    const auto undisturbed = make_kv_cache(quiet, model.model.cache_shape(), options);
    vtensor::throw_if_failed(model.model.try_step(*undisturbed, tokens, logits, threads));
    CHECK((content_of_cache(*cache, layers) == content_of_cache(*undisturbed, layers)));
}

TEST_CASE("Driver failures while a mapper thread maps ahead change neither rows nor content") {
    const auto truth = read_expected("untied_llama3");
    loaded model{vectors() / "untied_llama3"};
    const std::size_t layers = model.config.layers;
    simulated_device device{page};
    const auto cache = make_kv_cache(device.memory, model.model.cache_shape(),
                                     {kv_type::f16, kv_growth::look_ahead, {}, {}});
    thread_pool threads{1};
    std::vector<float> logits(model.config.vocabulary);
    std::size_t failed = 0;
    for (const int token : std::span{truth.prompt}.first(20)) {
        for (std::size_t k = 1;; ++k) {
            const picture before = take_picture(*cache, device, layers);
            device.machine.fail_calls(k, 1, code::unknown);
            const bool worked = model.model.try_step(*cache, std::span{&token, 1}, logits, threads).ok();
            static_cast<void>(cache->figures()); // waits for the mapper
            const bool struck = device.machine.disarm() != 0;
            REQUIRE(cache->verify());
            if (worked && !struck)
                break;
            if (worked) { // the mapper met the failure, or nobody minded
                cache->truncate(before.rows);
                continue;
            }
            ++failed;
            const picture after = take_picture(*cache, device, layers);
            CHECK(after.rows == before.rows);
            CHECK((after.content == before.content));
        }
    }
    CHECK(cache->rows() == 20);
    CHECK(failed > 0);
}

TEST_CASE("A device cache whose making fails leaves nothing behind") {
    const kv_shape shape{3, 2, 16, 64};
    simulated_device device{page};
    const auto before = device.machine.leaks();
    driver_faults faults{device.machine, code::unknown};
    const std::size_t failed = for_each_failing_call(
        faults,
        [&] {
            try {
                return make_kv_cache(device.memory, shape, {}) != nullptr;
            } catch (const vtensor::failure&) {
                return false;
            }
        },
        [&](std::size_t) { CHECK(to_string(device.machine.leaks()) == to_string(before)); },
        [&] { CHECK(to_string(device.machine.leaks()) == to_string(before)); }, // the end can be tried twice
        vtensor::errc::native_failure);
    CHECK(failed >= 7); // six reservations and an event
    CHECK(to_string(device.machine.leaks()) == to_string(before));
}

TEST_CASE("A device cache that ends while the driver fails leaves nothing behind") {
    const auto growth = GENERATE(kv_growth::exact, kv_growth::look_ahead);
    const auto truth = read_expected("untied_llama3");
    loaded model{vectors() / "untied_llama3"};
    thread_pool threads{1};
    std::vector<float> logits(model.config.vocabulary);
    simulated_device device{page};
    const auto before = device.machine.leaks();
    std::size_t failures = 1;
    for (std::size_t k = 1; failures != 0; ++k) {
        auto cache = make_kv_cache(device.memory, model.model.cache_shape(), {kv_type::f16, growth, {}, {}});
        vtensor::throw_if_failed(model.model.try_step(*cache, truth.prompt, logits, threads));
        static_cast<void>(cache->figures());
        device.machine.fail_calls(k, 1, code::unknown);
        cache.reset();
        failures = device.machine.disarm();
        CAPTURE(k);
        CHECK(to_string(device.machine.leaks()) == to_string(before));
        CHECK((failures != 0 || k > 10));
    }
}

TEST_CASE("A device that fails in the middle of a text ends it with one line") {
    const auto truth = read_expected("untied_llama3");
    loaded model{vectors() / "untied_llama3"};
    thread_pool threads{1};
    simulated_device device{page};
    const auto said_after = [&](entry which, int native, std::size_t first) {
        const auto cache = make_kv_cache(device.memory, model.model.cache_shape(), {});
        device.machine.fail_entry(which, native, first, static_cast<std::size_t>(-1));
        std::string said;
        try {
            static_cast<void>(generate(model.model, *cache, {truth.prompt, 60, 32, {}}, threads, [](int) {}));
        } catch (const input_error& refused) {
            said = refused.what();
        }
        device.machine.disarm();
        CHECK(said.find('\n') == std::string::npos);
        return said;
    };
    using Catch::Matchers::ContainsSubstring;
    CHECK_THAT(said_after(entry::mem_create, code::out_of_memory, 1),
               ContainsSubstring("could not grow to the 32 tokens of the prompt") &&
                   ContainsSubstring("--kv-limit"));
    CHECK_THAT(said_after(entry::memcpy_async, code::unknown, 5),
               ContainsSubstring("the step to the 32 tokens of the prompt failed") &&
                   ContainsSubstring("--backend"));
    CHECK_THAT(said_after(entry::memcpy_async, code::unknown, 100),
               ContainsSubstring("generated tokens failed"));
}
