// SPDX-License-Identifier: Apache-2.0
//
// The decoder's evicting cache over a backend that fails: call 1, 2, 3, … of a step or of an eviction fails
// in turn, in every layout. A failed step has changed nothing; a failed eviction may be repeated, and leaves
// every row where a query finds it, or has made it die; what comes out in the end is what an undisturbed run
// computes; and nothing is leaked.
#include <support/catch.hpp>

#include "model/evicting_cache_on.hpp"
#include "model/llama.hpp"
#include "support/run.hpp"
#include "support/vectors.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/kv/packed_cache.hpp>
#include <vtensor/kv/per_head_cache.hpp>
#include <vtensor/kv/per_layer_cache.hpp>

#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace decoder;
using decoder_test::loaded;
using decoder_test::vectors;
using vtensor::errc;
using vtensor::host_backend;
using vtensor::status;
namespace kv = vtensor::kv;
using failing_backend = vtensor::adaptors::failing<host_backend>;

namespace {

constexpr vtensor::bytes page{4096};

/// A sequence of tokens that means nothing.
int token_at(std::size_t position) { return static_cast<int>(position * position % 241); }

/// Live rows by layer, head and position: key and value.
using picture = std::vector<std::map<vtensor::position_type, std::vector<float>>>;

/// A model, and a cache with an eviction policy on memory that can be told to fail.
template <class Layer>
struct scene {
    scene(const std::string& method, defrag_kind defrag)
        : cache{backend,
                model.model.cache_shape(),
                {kv_type::f32, kv_growth::exact, page, {}},
                options(method, defrag)} {}

    eviction_options options(const std::string& method, defrag_kind defrag) {
        return {.method = make_eviction_method(method, {}),
                .defrag = defrag,
                .query_heads = model.config.heads,
                .output_weights = model.model.output_weights()};
    }
    status step(std::size_t count) {
        std::vector<int> tokens;
        for (std::size_t i = 0; i < count; ++i)
            tokens.push_back(token_at(cache.rows() + i));
        logits.resize(model.config.vocabulary);
        return model.model.try_step(cache, tokens, logits, threads);
    }
    picture rows() {
        picture all;
        for (std::size_t layer = 0; layer < model.config.layers; ++layer) {
            const auto heads = std::get<0>(cache.try_read(layer).value());
            for (const auto& head : heads) {
                auto& of_head = all.emplace_back();
                for (std::size_t slot = 0; slot < head.rows; ++slot) {
                    const auto at = head.positions == nullptr ? static_cast<vtensor::position_type>(slot)
                                                              : head.positions[slot];
                    if (at == vtensor::no_position)
                        continue;
                    const auto* const key = head.keys + static_cast<std::ptrdiff_t>(slot) * head.key_stride;
                    const auto* const value =
                        head.values + static_cast<std::ptrdiff_t>(slot) * head.value_stride;
                    std::vector<float> row(key, key + model.config.head_dim);
                    row.insert(row.end(), value, value + model.config.head_dim);
                    REQUIRE(of_head.emplace(at, std::move(row)).second);
                }
            }
        }
        return all;
    }

    loaded model{vectors() / "untied_llama3"};
    thread_pool threads{1};
    host_backend memory;
    failing_backend backend{memory};
    std::vector<float> logits;
    evicting_cache_on<Layer> cache;
};

/// Repeats an operation, failing one backend call after the other, until it meets no failure. How many it
/// met.
template <class Layer, class Operation, class Check>
std::size_t through_failures(scene<Layer>& now, std::size_t length, Operation operation, Check check) {
    std::size_t failures = 0;
    for (std::size_t k = 1; k < 100'000; ++k) {
        now.backend.fail_calls(k, length, errc::native_failure);
        const status outcome = operation();
        const bool struck = now.backend.failures() != 0;
        now.backend.disarm();
        REQUIRE(now.cache.verify());
        if (outcome)
            return failures;
        ++failures;
        CHECK(struck);
        CHECK(outcome.code() == errc::native_failure);
        check();
    }
    FAIL("it never succeeds");
    return failures;
}

template <class T>
using per_layer = kv::per_layer_cache<T, failing_backend>;
template <class T>
using per_head = kv::per_head_cache<T, failing_backend>;
template <class T>
using packed = kv::packed_cache<T, failing_backend>;

} // namespace

TEMPLATE_TEST_CASE(
    "Steps and evictions that meet a failure leave the sequence whole, and go on when repeated", "",
    per_layer<float>, per_head<float>, packed<float>) {
    const std::string method =
        GENERATE("h2o:rows=70,recent=20", "lazy:rows=70,every=4,recent=8", "sliding_window:recent=60");
    const auto defrag = GENERATE(defrag_kind::compact, defrag_kind::incremental);
    const std::size_t length = GENERATE(1U, 2U);
    CAPTURE(method, static_cast<int>(defrag), length);
    scene<TestType> now{method, defrag};
    scene<TestType> truth{method, defrag};
    const bool exact = length == 1 && !std::is_same_v<TestType, packed<float>>;
    std::size_t failures = 0;
    for (std::size_t step = 0; step < 40; ++step) {
        const std::size_t count = step == 0 ? 90 : 1;
        picture before = now.rows();
        const auto mapped = now.cache.figures().mapped;
        failures += through_failures(
            now, length, [&] { return now.step(count); },
            [&] {
                CHECK(now.rows() == before);
                // Where the undo fails too, or packed heads were laid out anew, memory stays as room.
                CHECK((!exact || now.cache.figures().mapped == mapped));
                CHECK(now.memory.kernel_physical_bytes() >= now.cache.figures().mapped);
            });
        REQUIRE(truth.step(count));
        CHECK(now.logits == truth.logits);
        REQUIRE(truth.cache.try_evict(step == 0, truth.threads));
        before = now.rows();
        const picture after = truth.rows();
        failures += through_failures(
            now, length, [&] { return now.cache.try_evict(step == 0, now.threads); },
            [&] {
                const picture left = now.rows();
                CHECK((left == before || left == after));
            });
        REQUIRE(now.rows() == after);
    }
    CHECK(failures > 10);
    CHECK(now.cache.figures().evicted->evictions == truth.cache.figures().evicted->evictions);
    const auto mapped = now.cache.figures().mapped;
    CHECK((length == 1 ? mapped == truth.cache.figures().mapped : mapped >= truth.cache.figures().mapped));
    CHECK(now.memory.kernel_physical_bytes() == mapped);
}

TEMPLATE_TEST_CASE("An eviction behind the prompt that fails in the middle is finished by the next call", "",
                   per_layer<float>, per_head<float>, packed<float>) {
    for (const auto defrag : {defrag_kind::compact, defrag_kind::swap_with_last, defrag_kind::remap}) {
        // A window that slides leaves whole blocks of pages dead, which are remapped.
        const std::string method =
            defrag == defrag_kind::remap ? "sliding_window:recent=40,sinks=0" : "snapkv:window=16";
        scene<TestType> truth{method, defrag};
        REQUIRE(truth.step(300));
        REQUIRE(truth.cache.try_evict(true, truth.threads));
        const picture after = truth.rows();
        std::size_t failures = 0;
        for (std::size_t k = 1; k < 100'000; ++k) {
            scene<TestType> now{method, defrag};
            REQUIRE(now.step(300));
            now.backend.fail_call(k, errc::native_failure);
            const status outcome = now.cache.try_evict(true, now.threads);
            const bool struck = now.backend.failures() != 0;
            now.backend.disarm();
            REQUIRE(now.cache.verify());
            CHECK(now.rows() == after); // what was chosen stays chosen, moved or not
            if (!outcome) {
                ++failures;
                CHECK(outcome.code() == errc::native_failure);
                if (k % 2 == 0)
                    REQUIRE(now.step(1));                         // it goes on as it is,
                REQUIRE(now.cache.try_evict(false, now.threads)); // and the memory comes back later
                CHECK((k % 2 == 0 || now.rows() == after));
                CHECK(now.cache.figures().evicted->evictions ==
                      (k % 2 == 0 && defrag == defrag_kind::remap ? 2 : 1));
                CHECK(now.cache.figures().mapped <=
                      truth.cache.figures().mapped + page * 12); // a page a tensor
            }
            if (!struck)
                break;
        }
        // Without pages that move nothing can fail but giving up the tail, which is tried again.
        CHECK((failures > 0) == (defrag == defrag_kind::remap && std::is_same_v<TestType, per_head<float>>));
    }
}

TEST_CASE("An evicting cache that fails in its life leaves nothing behind") {
    for (std::size_t k = 1; k < 400; k += 13) {
        host_backend memory;
        {
            failing_backend backend{memory};
            backend.fail_calls(k, 2, errc::out_of_memory);
            loaded model{vectors() / "untied_llama3"};
            thread_pool threads{1};
            std::vector<float> logits(model.config.vocabulary);
            try {
                evicting_cache_on<per_head<float>> cache{backend,
                                                         model.model.cache_shape(),
                                                         {kv_type::f32, kv_growth::exact, page, {}},
                                                         {.method = make_eviction_method("knorm", 0.3),
                                                          .defrag = defrag_kind::hybrid,
                                                          .query_heads = model.config.heads}};
                std::vector<int> tokens(200, 7);
                static_cast<void>(model.model.try_step(cache, tokens, logits, threads));
                static_cast<void>(cache.try_evict(true, threads));
                static_cast<void>(model.model.try_step(cache, tokens, logits, threads));
                CHECK(cache.verify());
            } catch (const vtensor::failure& refused) {
                CHECK(refused.error().code == errc::out_of_memory);
            }
        }
        CHECK(memory.mapped_bytes() == vtensor::bytes{});
        CHECK(memory.reserved_bytes() == vtensor::bytes{});
        CHECK(memory.kernel_physical_bytes() == vtensor::bytes{});
    }
}
